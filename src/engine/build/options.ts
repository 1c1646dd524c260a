/** What a build may be asked for: the flags of `docker build`, as data. `complete.ts` checks and completes them. */

import type { ByteSource } from '../archive.js'
import type { Ulimit } from '../options.js'
import type { StoredImage } from '../store/images.js'
import type { BuildListener } from './events.js'

/** A file of a context that is given in memory. */
export type ContextFile = string | Uint8Array | { readonly content: string | Uint8Array; readonly mode?: number }

/** Where a build's files come from. */
export type BuildSource =
  /** A directory of this machine. Nothing in it is changed. */
  | { readonly directory: string }
  /** A tar, compressed or not. */
  | { readonly tar: ByteSource }
  /** A Dockerfile as text, and files under their paths (`src/main.js`). Files are readable by all (0644) unless told otherwise. */
  | { readonly dockerfile: string; readonly files?: Readonly<Record<string, ContextFile>> }
  /** A git repository as `docker build` takes it: `https://host/project.git#branch:directory`. Needs git on this machine. */
  | { readonly git: string }

/** A secret of `RUN --mount=type=secret`. */
export type SecretSource =
  /** Contents of a file of this machine. */
  | { readonly file: string }
  /** Value of an environment variable of this process. */
  | { readonly env: string }
  | { readonly value: string | Uint8Array }

export interface BuildOptions {
  readonly context: BuildSource
  /**
   * Path of the Dockerfile: absolute, or relative to a context directory (which it may lie outside of). In a tar or a git
   * repository it is a path inside. `<Dockerfile>.dockerignore` beside it takes the place of `.dockerignore`.
   *
   * @default 'Dockerfile'
   */
  readonly file?: string
  /** The Dockerfile's text, instead of a file. */
  readonly dockerfile?: string
  /** Names for the image, such as `app:1.2`. @default none: it is known by its digest */
  readonly tags?: readonly string[]
  /** Values of ARGs. */
  readonly buildArgs?: Readonly<Record<string, string>>
  /** Stage to build, by name or number. @default the last one */
  readonly target?: string
  /** Runs every step anew, or every step of the named stages. @default false */
  readonly noCache?: boolean | readonly string[]
  /** By id. Contents are in no layer, no cache key and no message. */
  readonly secrets?: Readonly<Record<string, SecretSource>>
  /** Sockets of ssh agents by id; `default` is what `RUN --mount=type=ssh` takes. `true`: SSH_AUTH_SOCK of this process. */
  readonly ssh?: Readonly<Record<string, string | true>>
  /** Such as `linux/arm64`. RUN works on this machine's own platform only. @default this machine's */
  readonly platform?: string
  /**
   * Further sources by the name under which FROM, COPY and RUN find them: a directory, `docker-image://alpine:3.20`,
   * `oci-layout:///path[:tag]`, or a git repository. `app`, `app:latest` and `docker.io/library/app` are the same name.
   */
  readonly namedContexts?: Readonly<Record<string, string>>
  /** Labels of the image, beside those of the Dockerfile. */
  readonly labels?: Readonly<Record<string, string>>
  /** Asks the registry even for images that are here. @default false */
  readonly pull?: boolean
  /** Network of RUN steps that do not choose. `host` needs `network.host` in `allow`. @default 'default' */
  readonly network?: 'default' | 'none' | 'host'
  /** Lines for /etc/hosts of RUN steps: name → address, or `host-gateway`. */
  readonly addHosts?: Readonly<Record<string, string>>
  /** /dev/shm of RUN steps in bytes. @default 67108864 */
  readonly shmSizeBytes?: number
  readonly ulimits?: Readonly<Record<string, number | Ulimit>>
  /** What RUN may ask for beyond the usual. @default nothing */
  readonly allow?: readonly ('security.insecure' | 'network.host')[]
  /** Hears of every step. What it throws is a warning of the process and ends nothing. */
  readonly onEvent?: BuildListener
  /** Gives up: running steps are killed, nothing half-done stays. */
  readonly signal?: AbortSignal
}

export interface BuildResult {
  readonly image: StoredImage
  /** Lines for people, with their place in the Dockerfile. */
  readonly warnings: readonly string[]
  /** Steps that were executed, and those whose result was in the cache. */
  readonly executed: number
  readonly cached: number
}
