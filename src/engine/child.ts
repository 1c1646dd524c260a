/** Child processes, begun only where there are descriptors for one. */

import { spawn } from 'node:child_process'
import { demandDescriptors, outOfDescriptors } from './descriptors.js'

/** Two for each of three pipes and two for node's own, and some for what other threads open in the same moment. */
const DESCRIPTORS = 16

/**
 * Node's `spawn`, which throws ENGINE_UNAVAILABLE where it would return a child without any streams. It opens the pipes of a child first and then one of its own:
 * where there is room for the former only, it loses them, and they stay open for as long as the process lives.
 */
export const spawnChild = ((program: string, words: readonly string[], options: object) => {
  const what = `Cannot start ${program}`
  demandDescriptors(DESCRIPTORS, what)
  const child = spawn(program, words, options)
  if (child.stdio) return child
  child.on('error', () => {}) // told later besides
  throw outOfDescriptors(what)
}) as typeof spawn
