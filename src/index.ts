/** mayfly: throwaway containers for tests. */

export type * from './backends/backend.js'
export type { Inspection as InspectResult } from './backends/backend.js'
export { useBackend } from './backends/current.js'
export type { BindMount, DeviceToPass, ExtraHost, ResourcesQuota, UlimitPair } from './checks.js'
export { ContainerSnapshot } from './container-snapshot.js'
export type {
  ArchiveToCopy,
  Content,
  ContentToCopy,
  CopyToContainerOptions,
  DirectoryToCopy,
  FileToCopy,
} from './copy.js'
export type { CreateModifier, LogConsumer } from './definition.js'
export type { ByteSource } from './engine/archive.js'
export type {
  Attachment,
  Container,
  CopyInOptions,
  CopyOptions,
  StopOptions as EngineStopOptions,
} from './engine/container.js'
export type { WaitOptions } from './engine/deadline.js'
export type { EngineInfo, EngineOptions } from './engine/engine.js'
export { type ErrorCode, type ErrorFacts, MayflyError } from './engine/errors.js'
export type { ContainerEvent, EngineEvent, LostNotice, WarningNotice } from './engine/events.js'
export type { ExecBufferedOptions, ExecExit, ExecProcess, ExecResult as EngineExecResult } from './engine/exec.js'
export type { ImageHistoryEntry, ImageInspection } from './engine/image-inspection.js'
export type { ImageService, ImportOptions } from './engine/images.js'
export type { ContainerInspection } from './engine/inspect.js'
export type { ContainerExit, ContainerState, ListeningPort } from './engine/life.js'
export type { LogEntry, LogOptions as EngineLogOptions, LogTextOptions } from './engine/logs.js'
export type {
  ConnectOptions,
  Network as EngineNetwork,
  NetworkIpv6Options,
  NetworkOptions as EngineNetworkOptions,
  Networks,
} from './engine/networks.js'
export type * from './engine/options.js'
export type { ExecOptions as EngineExecOptions } from './engine/options.js'
export type { RunOptions, RunResult, StartOptions as EngineStartOptions } from './engine/run.js'
export type { ContainerStats, NetworkStats } from './engine/stats.js'
export type {
  Volume as EngineVolume,
  VolumeOptions as EngineVolumeOptions,
  VolumePruneOptions,
  Volumes,
} from './engine/volumes.js'
export type { WaitForLogOptions } from './engine/wait.js'
export type { LinkFact as ContainerLink, PublishedFact as BoundPort } from './engine/wire.js'
export { Engine } from './engine-door.js'
export type { NetworkFaultOptions, StartedFault } from './faults.js'
export {
  GenericContainer,
  type ImageMount,
  type StartOptions,
  type TestContainer,
  type VolumeMount,
} from './generic-container.js'
export { type BuildContext, type BuildOptions, GenericContainerBuilder } from './generic-container-builder.js'
export type { Hooks } from './hooks.js'
export { TestContainers } from './host-ports.js'
export { ImageName } from './image-name.js'
export { type ImageSubstitution, substituteImages } from './image-substitution.js'
export { Network, type NetworkPlace, StartedNetwork, StoppedNetwork } from './network.js'
export type { PortWithBinding, PortWithOptionalBinding } from './ports.js'
export { type ImagePullPolicy, type LocalImage, PullPolicy } from './pull-policy.js'
export { startAll } from './start-all.js'
export {
  AbstractStartedContainer,
  type CommitOptions,
  type CopyControl,
  type ExecOptions,
  type ExecResult,
  type LogOptions,
  type RestartOptions,
  type SnapshotOptions,
  StartedTestContainer,
  type StopOptions,
} from './started-container.js'
export { AbstractStoppedContainer, StoppedTestContainer } from './stopped-container.js'
export { StartedVolume, Volume } from './volume.js'
export { CompositeWaitStrategy } from './wait/composite.js'
export { type HttpTlsOptions, HttpWaitStrategy, type HttpWaitStrategyOptions } from './wait/http.js'
export type { Resource, ResourceOptions } from './wait/resource.js'
export type { Query } from './wait/sql.js'
export { StartupCheckStrategy, type StartupStatus } from './wait/startup-check.js'
export {
  AbstractWaitStrategy,
  type Health,
  type WaitControl,
  type WaitStrategy,
  type WaitTarget,
} from './wait/strategy.js'
export { Wait } from './wait/wait.js'
