import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** They last longest, some of them for minutes, though they are short to read: Vitest would take them last, when nothing is left to do beside them. */
const LONGEST = ['test/chaos/chaos.test.ts', 'test/fixtures/rabbitmq.test.ts', 'test/integration/store-kill.test.ts']

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isLongest = ({ moduleId }: TestSpecification) => LONGEST.some((name) => moduleId.endsWith(`/${name}`))
    const sorted = await super.sort(files)
    return [...sorted.filter(isLongest), ...sorted.filter((file) => !isLongest(file))]
  }
}

export default defineConfig({
  resolve: {
    // Examples import `mayfly` as a user does; here that is the source.
    alias: [
      { find: /^mayfly$/, replacement: fileURLToPath(new URL('./src/index.ts', import.meta.url)) },
      {
        find: /^mayfly\/fixtures\/(.*)$/,
        replacement: fileURLToPath(new URL('./src/fixtures/$1.ts', import.meta.url)),
      },
    ],
  },
  test: {
    // The other examples are projects of their own, which test/runners/examples.test.ts installs and runs.
    include: ['test/**/*.test.ts', 'examples/engine/*.test.ts'],
    exclude: ['**/node_modules/**'],
    pool: 'forks',
    sequence: { sequencer: LongestFirst },
    // They wait for containers more than they compute; Vitest itself would take one process fewer than there are cores.
    maxWorkers: Math.max(2, availableParallelism()),
    // Real containers on small machines: a slow disk or a busy neighbour is no failure, a hang is.
    testTimeout: 30_000,
    hookTimeout: 30_000,
  },
})
