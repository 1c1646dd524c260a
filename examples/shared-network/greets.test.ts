import { expect } from 'vitest'
import { primary, test } from './replica.js'

test('greets: what is written to the shared primary arrives', async ({ replica }) => {
  await primary.executeCliCmd('SET', ['greeting', 'hello'])
  // It follows a moment behind.
  await expect.poll(() => replica.executeCliCmd('GET', ['greeting']), { timeout: 4_000 }).toContain('hello')
})
