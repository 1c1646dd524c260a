/** What containers printed last, to be shown with a test that has failed. */

import type { RunningContainer } from '../running-container.js'
import type { StartedTestContainer } from '../started-container.js'
import { readTail } from '../wait/explain.js'

/** A paragraph for each container; '' for none. Each begins with an empty line. */
export async function describeTails(
  containers: Iterable<readonly [name: string, StartedTestContainer]>,
): Promise<string> {
  const paragraphs = [...containers].map(async ([name, started]) => {
    const { container } = (started as unknown as { readonly running: RunningContainer }).running
    const tail = await readTail(container)
    // Indented by a bar: a line of a container's own stack trace must not pass for one of the test's.
    return `\n\nLast output of "${name}"${tail ? `:\n${tail.replace(/^/gm, '  | ')}` : ': none'}`
  })
  return (await Promise.all(paragraphs)).join('')
}
