/**
 * The errors that a test may want to catch. Each has a stable `code`, the facts as fields and the original as `cause`.
 * Programmer mistakes that no test would catch are plain `TypeError` and `RangeError`.
 */

/** Stable codes of {@link MayflyError}. */
export type ErrorCode =
  | 'INVALID_OPTION' // field, value: unknown, of the wrong type or out of range
  | 'NAME_TAKEN'
  | 'NO_SUCH_CONTAINER'
  | 'CONTAINER_NOT_RUNNING'
  | 'CONTAINER_RUNNING'
  | 'PROGRAM_NOT_FOUND'
  | 'PROGRAM_NOT_EXECUTABLE'
  | 'ARGUMENTS_TOO_LONG'
  | 'USER_NOT_FOUND'
  | 'GROUP_NOT_FOUND'
  | 'WORKDIR_NOT_FOUND'
  | 'WORKDIR_ESCAPES'
  | 'ROOTFS_NOT_FOUND'
  | 'ROOTFS_INVALID'
  | 'MOUNT_SOURCE_NOT_FOUND'
  | 'MOUNT_TARGET_ESCAPES'
  | 'MOUNT_FAILED'
  | 'DEVICE_NOT_FOUND'
  | 'PORT_IN_USE'
  | 'PORT_NOT_ALLOWED'
  | 'LIMIT_UNAVAILABLE' // the controller is missing or not delegated
  | 'LIMIT_REFUSED' // the kernel refuses the value
  | 'SYSCTL_REFUSED'
  | 'CAPABILITY_UNAVAILABLE'
  | 'ARCHIVE_INVALID'
  | 'PATH_NOT_FOUND'
  | 'NOT_SUPPORTED' // not possible here (rootless, kernel): the message says why
  | 'TIMEOUT'
  | 'CONTAINER_EXITED' // while something waited for it
  | 'ENGINE_UNAVAILABLE' // the warden could not start
  | 'ENGINE_CLOSED'
  | 'LAUNCH_FAILED' // any other step; see `step`
  | 'REGISTRY_UNREACHABLE' // no connection: refused, name not found, timed out, broken again and again
  | 'REGISTRY_CERTIFICATE' // TLS answers with a certificate that is not trusted or not the host's
  | 'REGISTRY_DENIED' // 401 or 403
  | 'REGISTRY_NOT_FOUND' // 404: no such repository, tag or digest
  | 'REGISTRY_RATE_LIMIT' // 429, also after waiting
  | 'REGISTRY_FAILED' // any other answer that is no use: 5xx after retries, endless redirects, not the protocol
  | 'DIGEST_MISMATCH' // content is not what its digest says
  | 'SIZE_MISMATCH' // content is longer or shorter than announced
  | 'PLATFORM_NOT_FOUND' // an index has no image for the platform
  | 'CREDENTIALS_INVALID' // a credential helper or a configuration file of credentials cannot be used
  | 'DISK_FULL'
  | 'IMAGE_NOT_FOUND' // no such image here; value is the reference
  | 'IMAGE_IN_USE' // a container or another reference needs it
  | 'BOOTSTRAP_FAILED' // mmdebstrap or debootstrap is missing or failed; logTail has its last lines
  | 'INVALID_REFERENCE' // no image reference; value is the part that is wrong
  | 'IMAGE_INVALID' // a manifest, an index or an image config that breaks the rules; field names where
  | 'IMAGE_AMBIGUOUS' // an image id is too short to tell
  | 'BLOB_NOT_FOUND' // the store has no such content
  | 'BLOB_DAMAGED' // content of the store is not what its digest says; path, digest
  | 'LAYER_DAMAGED' // a layer of the store is not whole; path, digest
  | 'STORE_DAMAGED' // a small file of the store cannot be read; path
  | 'STORE_BUSY' // a pull, a build or a prune did not end in time
  | 'DOCKERFILE_INVALID' // a Dockerfile, or a pattern of .dockerignore, that breaks the rules; file, line, value, expected
  | 'PORT_NOT_EXPOSED' // value is the port, such as 80/tcp
  | 'WAIT_FAILED' // what was waited for can no longer come: unhealthy, an exit with another code, a check that gave up
  | 'WAIT_IMPOSSIBLE' // what is to be waited for can never come: no health check, a port that is not exposed, no such program
  | 'BUILD_FAILED' // a program that a RUN step ran; file, line, exitCode, logTail
  | 'BUILD_DENIED' // a step asks for what the build was not allowed: see `allow`
  | 'CONTEXT_INVALID' // a build context that cannot be read
  | 'SOURCE_NOT_FOUND' // a file that COPY, ADD or RUN --mount names; file, line, value
  | 'SOURCE_OUTSIDE' // a source leads out of its context; file, line, value
  | 'COPY_CONFLICT' // a file in the place of a directory or the reverse, or several files for one name
  | 'STAGE_NOT_FOUND' // no such build stage; value is the name
  | 'SECRET_NOT_FOUND' // a required secret or ssh agent was not given; value is its id
  | 'FETCH_FAILED' // what ADD fetches from a URL or a git repository; value is the address
  | 'ARCHIVE_TOO_LARGE' // more bytes or entries than allowed: perhaps a decompression bomb
  | 'MIGRATION_FAILED' // a migration of a prepared state; file, exitCode, logTail
  | 'NO_SUCH_NETWORK'
  | 'NETWORK_IN_USE' // a container is on it
  | 'NETWORK_CONNECTED' // the container is on that network already
  | 'NETWORK_NOT_CONNECTED' // the container is not on that network
  | 'SUBNET_IN_USE' // it overlaps a route of the host or another network
  | 'ADDRESS_IN_USE' // another container of the network has it, or none is left
  | 'NO_SUCH_VOLUME'
  | 'VOLUME_IN_USE' // a container mounts it, perhaps one of another process
  | 'STORE_FAILED' // a file of the store cannot be used; errno says why
  | 'QUERY_FAILED' // a client program in a fixture's container refused what it was told; the message has its output
  | 'HOOK_FAILED' // a function of the user's threw: a hook, a create modifier …; value is its name, cause what it threw
  | 'SETUP_MISSING' // a test runner's global setup, which was to start shared containers, did not run

/** The facts that an error of the engine carries; which are set depends on the code. */
export interface ErrorFacts {
  /** Option that was wrong, such as `limits.memoryBytes`. */
  readonly field?: string
  /** Value that was wrong. */
  readonly value?: unknown
  /** The warden's step that failed, such as `mount-target` (native/PROTOCOL.md). */
  readonly step?: string
  /** Such as `ENOENT`. */
  readonly errno?: string
  /** Name of the container. */
  readonly container?: string
  /** File or directory of the store. */
  readonly path?: string
  /** Digest of the content it is about. */
  readonly digest?: string
  /** Dockerfile or ignore file, as it was called by who gave it. */
  readonly file?: string
  /** Line of that file, from 1. */
  readonly line?: number
  /** What should have stood there. */
  readonly expected?: string
  /** What to do about it. */
  readonly hint?: string
  /** The container's last output lines. */
  readonly logTail?: string
  /** Exit code of the container that the error is about. */
  readonly exitCode?: number
}

/** An error of the engine. `message` is complete for people, `code` and the facts for programs. */
export class MayflyError extends Error {
  override readonly name: string = 'MayflyError'
  readonly code: ErrorCode
  // Declared only: a fact that is not known must not show as a property that is undefined.
  declare readonly field?: string
  declare readonly value?: unknown
  declare readonly step?: string
  declare readonly errno?: string
  declare readonly container?: string
  declare readonly path?: string
  declare readonly digest?: string
  declare readonly file?: string
  declare readonly line?: number
  declare readonly expected?: string
  declare readonly hint?: string
  declare readonly logTail?: string
  declare readonly exitCode?: number

  constructor(code: ErrorCode, message: string, facts: ErrorFacts = {}, options?: { cause?: unknown }) {
    const hint = facts.hint ? `\n  Hint: ${facts.hint}` : ''
    const tail = facts.logTail ? `\n  Last output:\n${facts.logTail.replace(/^/gm, '    ')}` : ''
    super(`${message}${hint}${tail}`, options)
    this.code = code
    Object.assign(this, facts)
  }
}
