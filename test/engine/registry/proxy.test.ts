import { describe, expect, test } from 'vitest'
import { isLoopback, proxyFor } from '../../../src/engine/registry/proxy.js'

const PROXY = 'http://proxy.example:3128'
const asked = (url: string, environment: NodeJS.ProcessEnv) => proxyFor(new URL(url), environment)

describe('proxyFor', () => {
  test('takes HTTPS_PROXY for https and HTTP_PROXY for http, in either case', () => {
    expect(asked('https://a.example/', { HTTPS_PROXY: PROXY, HTTP_PROXY: 'http://other:1' })).toBe(PROXY)
    expect(asked('http://a.example/', { HTTPS_PROXY: 'http://other:1', http_proxy: PROXY })).toBe(PROXY)
    expect(asked('https://a.example/', { HTTP_PROXY: PROXY })).toBeUndefined()
    expect(asked('https://a.example/', { HTTPS_PROXY: 'proxy.example:3128' })).toBe(PROXY)
  })

  test.each(['https://localhost:5000/', 'http://127.0.0.1/', 'http://127.9.9.9:5000/', 'http://[::1]:5000/'])(
    'asks %s directly, whatever is set',
    (url) => expect(asked(url, { HTTPS_PROXY: PROXY, HTTP_PROXY: PROXY })).toBeUndefined(),
  )

  test.each([
    ['example.com', 'https://example.com/', true],
    ['example.com', 'https://registry.example.com/', true],
    ['example.com', 'https://badexample.com/', false],
    ['.example.com', 'https://registry.example.com/', true],
    ['.example.com', 'https://example.com/', false],
    ['*.example.com', 'https://registry.example.com/', true],
    ['*', 'https://anything/', true],
    ['10.0.0.0/8', 'https://10.1.2.3:5000/', true],
    ['10.0.0.0/8', 'https://11.1.2.3:5000/', false],
    ['10.0.0.0/99', 'https://10.1.2.3:5000/', false],
    ['fd00::/8', 'https://[fd00::1]:5000/', true],
    ['10.1.2.3', 'https://10.1.2.3:5000/', true],
    ['fd00::1', 'https://[fd00::1]/', true],
    ['host.example:5000', 'https://host.example:5000/', true],
    ['host.example:5000', 'https://host.example/', false],
    ['host.example:443', 'https://host.example/', true],
    ['one.example, two.example', 'https://two.example/', true],
    ['', 'https://a.example/', false],
  ])('NO_PROXY=%s excepts %s: %s', (list, url, isExcepted) => {
    expect(asked(url, { HTTPS_PROXY: PROXY, NO_PROXY: list })).toBe(isExcepted ? undefined : PROXY)
  })
})

test('isLoopback knows names and addresses, and is not fooled by prefixes', () => {
  expect(['localhost', 'registry.localhost', '127.0.0.1', '127.1.2.3', '::1'].every(isLoopback)).toBe(true)
  expect(['127.0.0.1.example.com', 'localhost.example.com', 'notlocalhost', '128.0.0.1', '::2'].some(isLoopback)).toBe(
    false,
  )
})
