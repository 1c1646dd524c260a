/** How a container ended, in words. */

import type { ContainerExit } from './life.js'

/** "exited with code 1", "was killed by SIGKILL", "was killed because memory ran out". */
export function describeExit(exit: Pick<ContainerExit, 'exitCode' | 'signal' | 'oomKilled'>): string {
  if (exit.oomKilled) return 'was killed because memory ran out'
  return exit.signal ? `was killed by ${exit.signal}` : `exited with code ${exit.exitCode}`
}
