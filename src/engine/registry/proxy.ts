/** Which proxy a request goes through: HTTP_PROXY, HTTPS_PROXY and NO_PROXY as docker and curl read them. */

import { BlockList, isIP } from 'node:net'

/** The proxy's URL, or undefined for a direct connection. Loopback hosts are never asked for through a proxy. */
export function proxyFor(url: URL, environment: NodeJS.ProcessEnv = process.env): string | undefined {
  const read = (name: string) => environment[name] || environment[name.toLowerCase()] || undefined
  const host = bareHost(url)
  if (isLoopback(host)) return undefined
  const proxy = url.protocol === 'https:' ? read('HTTPS_PROXY') : read('HTTP_PROXY')
  if (!proxy || isExcepted(host, portOf(url), read('NO_PROXY') ?? '')) return undefined
  return proxy.includes('://') ? proxy : `http://${proxy}`
}

/** Host name or address without brackets. */
export function bareHost(url: URL): string {
  return url.hostname.replace(/^\[|\]$/g, '')
}

export function isLoopback(host: string): boolean {
  if (host === 'localhost' || host.endsWith('.localhost')) return true
  return isIP(host) === 4 ? host.startsWith('127.') : host === '::1'
}

function portOf(url: URL): string {
  return url.port || (url.protocol === 'https:' ? '443' : '80')
}

/** `example.com` stands for its subdomains too, `.example.com` for these only; also addresses, networks, `host:port` and `*`. */
function isExcepted(host: string, port: string, list: string): boolean {
  return list
    .split(/[\s,]+/)
    .filter(Boolean)
    .some((entry) => {
      if (entry === '*') return true
      if (entry.includes('/')) return isInNetwork(host, entry)
      const [, name = entry, wantedPort] = /^(.*?|\[.*\]):(\d+)$/.exec(entry) ?? []
      if (isIP(entry) === 0 && wantedPort && wantedPort !== port) return false
      const wanted = (isIP(entry) ? entry : name).replace(/^\[|\]$|^\*/g, '').toLowerCase()
      return host === wanted || (isIP(host) === 0 && host.endsWith(wanted.startsWith('.') ? wanted : `.${wanted}`))
    })
}

function isInNetwork(host: string, network: string): boolean {
  const [address = '', bits = ''] = network.split('/')
  const family = isIP(address)
  if (family === 0 || isIP(host) !== family) return false
  const type = family === 4 ? 'ipv4' : 'ipv6'
  const list = new BlockList()
  try {
    list.addSubnet(address, Number(bits), type)
  } catch {
    return false // no number of bits: an entry that means nothing
  }
  return list.check(host, type)
}
