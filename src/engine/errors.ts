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
  /** What to do about it. */
  readonly hint?: string
  /** The container's last output lines. */
  readonly logTail?: string
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
  declare readonly hint?: string
  declare readonly logTail?: string

  constructor(code: ErrorCode, message: string, facts: ErrorFacts = {}, options?: { cause?: unknown }) {
    const hint = facts.hint ? `\n  Hint: ${facts.hint}` : ''
    const tail = facts.logTail ? `\n  Last output:\n${facts.logTail.replace(/^/gm, '    ')}` : ''
    super(`${message}${hint}${tail}`, options)
    this.code = code
    Object.assign(this, facts)
  }
}
