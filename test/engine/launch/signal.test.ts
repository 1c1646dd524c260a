import { constants } from 'node:os'
import { describe, expect, it } from 'vitest'
import { parseSignal } from '../../../src/engine/launch/signal.js'

describe('parseSignal', () => {
  it('knows names with and without SIG, in any case, and numbers as numbers or text', () => {
    expect(['SIGINT', 'INT', 'sigint', 'int', '2', 2].map((one) => parseSignal(one))).toEqual(Array(6).fill(2))
  })

  it.skipIf(process.platform !== 'linux')('has the numbers of this kernel', () => {
    for (const [name, number] of Object.entries(constants.signals)) {
      if (name !== 'SIGUNUSED') expect(parseSignal(name), name).toBe(number)
    }
  })

  it('counts real-time signals from both ends', () => {
    expect(['RTMIN', 'SIGRTMIN+3', 'RTMAX', 'SIGRTMAX-1', 'RTMIN+30'].map((one) => parseSignal(one))).toEqual([
      34, 37, 64, 63, 64,
    ])
  })

  it.each([
    0,
    -1,
    65,
    1.5,
    Number.NaN,
    '',
    '0',
    '65',
    '-9',
    '9 ',
    'SIG',
    'SIGNOPE',
    'TERM+1',
    'RTMIN-1',
    'RTMIN+31',
    'RTMAX+1',
    '__proto__',
    null,
    undefined,
    {},
    true,
  ])('refuses %o and names the field', (value) => {
    expect(() => parseSignal(value, 'stopSignal')).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', field: 'stopSignal', value }),
    )
  })
})
