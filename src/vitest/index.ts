/** mayfly in Vitest: containers as fixtures of a test, and containers that all workers share. */

export {
  type ContainerOptions,
  type ContainerScope,
  type ContainerSet,
  type ContainersOptions,
  containers,
} from './containers.js'
export { type SharedContainers, type ShareOptions, shareContainers } from './share.js'
