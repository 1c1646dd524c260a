/** mayfly: throwaway containers for tests. */

export type { ByteSource } from './engine/archive.js'
export {
  type Attachment,
  Container,
  type CopyInOptions,
  type CopyOptions,
  type StopOptions,
} from './engine/container.js'
export type { WaitOptions } from './engine/deadline.js'
export {
  Engine,
  type EngineInfo,
  type EngineOptions,
  type RunOptions,
  type RunResult,
  type StartOptions,
} from './engine/engine.js'
export { type ErrorCode, type ErrorFacts, MayflyError } from './engine/errors.js'
export type { ContainerEvent, EngineEvent, LostNotice, WarningNotice } from './engine/events.js'
export type { ExecBufferedOptions, ExecExit, ExecProcess, ExecResult } from './engine/exec.js'
export type { ContainerInspection } from './engine/inspect.js'
export type { ContainerExit, ContainerState, ListeningPort } from './engine/life.js'
export type { LogEntry, LogOptions, LogTextOptions } from './engine/logs.js'
export type * from './engine/options.js'
export type { ContainerStats, NetworkStats } from './engine/stats.js'
export type { WaitForLogOptions } from './engine/wait.js'
export type { PublishedFact as BoundPort } from './engine/wire.js'
