/** Build arguments that exist without an ARG, as data; who may see which when is the builder's business. */

/** Usable in RUN without an ARG; left out of the history and of the cache key unless an ARG declares them. */
export const PROXY_ARGS: readonly string[] = Object.freeze(
  ['HTTP_PROXY', 'HTTPS_PROXY', 'FTP_PROXY', 'NO_PROXY', 'ALL_PROXY'].flatMap((name) => [name, name.toLowerCase()]),
)

/** Set by the builder in the global scope (FROM lines); a stage sees them after an ARG of that name. */
const PLATFORM_ARGS: readonly string[] = Object.freeze([
  'TARGETPLATFORM',
  'TARGETOS',
  'TARGETARCH',
  'TARGETVARIANT',
  'TARGETSTAGE',
  'BUILDPLATFORM',
  'BUILDOS',
  'BUILDARCH',
  'BUILDVARIANT',
])

/** Given as --build-arg, these steer the build itself. */
const STEERING_ARGS: readonly string[] = Object.freeze([
  'BUILDKIT_BUILD_NAME',
  'BUILDKIT_CACHE_MOUNT_NS',
  'BUILDKIT_CONTEXT_KEEP_GIT_DIR',
  'BUILDKIT_INLINE_CACHE',
  'BUILDKIT_MULTI_PLATFORM',
  'BUILDKIT_SANDBOX_HOSTNAME',
  'BUILDKIT_SYNTAX',
  'SOURCE_DATE_EPOCH',
])

/** All of them: a --build-arg of such a name needs no ARG to be of use. */
export const PREDEFINED_ARGS: readonly string[] = Object.freeze([...PROXY_ARGS, ...PLATFORM_ARGS, ...STEERING_ARGS])
