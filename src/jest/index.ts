/** mayfly in Jest: containers as hooks of a test file, and containers that all workers share. */

export { type SharedContainers, type ShareOptions, shareContainers } from './share.js'
export { type ContainerOptions, type ContainerScope, useContainer, useContainers } from './use-containers.js'
