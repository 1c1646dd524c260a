import { expect } from 'vitest'
import { primary, test } from './replica.js'

test('counts: what is written to the shared primary arrives', async ({ replica }) => {
  await primary.executeCliCmd('SET', ['count', '42'])
  // It follows a moment behind.
  await expect.poll(() => replica.executeCliCmd('GET', ['count']), { timeout: 4_000 }).toContain('42')
})
