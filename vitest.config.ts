import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

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
    include: ['test/**/*.test.ts', 'examples/**/*.test.ts'],
    exclude: ['**/node_modules/**', 'examples/node-test/**'],
    pool: 'forks',
    // Real containers on small machines: a slow disk or a busy neighbour is no failure, a hang is.
    testTimeout: 30_000,
    hookTimeout: 30_000,
  },
})
