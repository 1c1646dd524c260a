declare module 'seek-bzip' {
  const Bunzip: {
    readonly prototype: object
    decode(input: Uint8Array, output?: undefined, multistream?: boolean): Buffer
  }
  export default Bunzip
}

declare module 'seek-bzip/lib/bitreader.js' {
  const BitReader: new (input: { readByte(): number }) => { read(bits: number): number }
  export default BitReader
}
