/** How much a layer from a stranger may become when it is unpacked: more is a decompression bomb. */

/** No archive of files grows more than this when it is decompressed, beyond the first gibibyte. */
const MAX_EXPANSION = 200
const FREE_BYTES = 2 ** 30
/** Ten times as many as the largest images have in all their layers. */
const MAX_ENTRIES = 5_000_000

/** @param compressedBytes size of the layer as it came */
export function layerLimits(compressedBytes: number): { readonly maxBytes: number; readonly maxEntries: number } {
  return { maxBytes: FREE_BYTES + compressedBytes * MAX_EXPANSION, maxEntries: MAX_ENTRIES }
}
