/** /etc/hosts and /etc/resolv.conf of a container, as Docker writes them. `@ADDRESS@` and `@GATEWAY@` are the warden's to fill in. */

import type { CompleteContainerOptions } from './complete.js'
import type { NetworkIdentity, SessionFacts } from './facts.js'

/** Known to every container, whatever its network is. */
const LOCAL_HOSTS = `127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
`

/**
 * Host name and files of a container:
 *
 * - `bridge`: its own address under its host name; names are asked of the session's name server;
 * - `none`: as bridge without an address; resolv.conf is the host's, for what it is worth;
 * - `host`: the host's files; what it reaches on this machine is its own loopback;
 * - `container:…`: the files of that container, whose address and gateway are known by now.
 */
export function networkIdentity(options: CompleteContainerOptions, facts: SessionFacts, id: string): NetworkIdentity {
  const { network, uts, domainname } = options
  const ownName = options.hostname ?? (uts === 'host' || network === 'host' ? facts.hostname : id.slice(0, 12))
  if (network === 'host') {
    return {
      hostname: ownName,
      domainname,
      hosts: hostsFile(facts.hosts, options).replaceAll('@GATEWAY@', '127.0.0.1'),
      resolvConf: resolvConf(options, facts),
    }
  }
  if (network !== 'bridge' && network !== 'none') {
    const { identity, address, gateway } = facts.container(network.slice('container:'.length))
    const filled = (text: string) =>
      text.replaceAll('@ADDRESS@', address || '127.0.0.1').replaceAll('@GATEWAY@', gateway || '127.0.0.1')
    return {
      hostname: options.hostname ?? (uts === 'host' ? facts.hostname : identity.hostname),
      domainname: domainname ?? identity.domainname,
      hosts: filled(hostsFile(identity.hosts, options)),
      resolvConf: filled(identity.resolvConf),
    }
  }
  const fullName = domainname === undefined ? ownName : `${ownName}.${domainname}`
  const names = [...new Set([fullName, ownName, ownName.split('.', 1)[0]])].join(' ')
  const own = network === 'bridge' ? `@ADDRESS@\t${names}\n` : ''
  return {
    hostname: ownName,
    domainname,
    hosts: hostsFile(LOCAL_HOSTS, options) + own,
    resolvConf: resolvConf(options, facts),
  }
}

/** This machine, for a container that may reach a port of it. */
const HOST_NAMES = 'host.mayfly.internal host.testcontainers.internal host.docker.internal'

function hostsFile(base: string, { extraHosts, hostAccess }: CompleteContainerOptions): string {
  const begun = base === '' || base.endsWith('\n') ? base : `${base}\n`
  const lines = Object.entries(extraHosts).flatMap(([name, addresses]) =>
    addresses.map((address) => `${address === 'host-gateway' ? '@GATEWAY@' : address}\t${name}\n`),
  )
  const host = hostAccess.length > 0 ? `@GATEWAY@\t${HOST_NAMES}\n` : ''
  return begun + lines.join('') + host
}

function resolvConf(options: CompleteContainerOptions, facts: SessionFacts): string {
  const { network, dns, dnsSearch, dnsOptions } = options
  const isUntouched = dns.length + dnsSearch.length + dnsOptions.length === 0
  if (network !== 'bridge' && isUntouched) return facts.resolvConf
  const words = (keyword: string) =>
    [...facts.resolvConf.matchAll(new RegExp(`^[ \\t]*${keyword}[ \\t]+(.+)$`, 'gm'))].map(([, rest]) =>
      rest!.trim().split(/\s+/),
    )
  const hostServers = words('nameserver').map(([server]) => server!)
  const servers = dns.length > 0 ? dns : network === 'bridge' ? ['@GATEWAY@'] : hostServers
  // The last `search` line counts (resolv.conf(5)). A single dot stands for "none".
  const search = (dnsSearch.length > 0 ? dnsSearch : (words('search').at(-1) ?? [])).filter((one) => one !== '.')
  // With ndots:0 the name of a container is asked for as it is before a search domain is tried on it.
  const isOwnServer = network === 'bridge' && dns.length === 0
  const hasDots = dnsOptions.some((option) => option.startsWith('ndots:'))
  const settings = isOwnServer && !hasDots ? [...dnsOptions, 'ndots:0'] : dnsOptions
  return [
    ...servers.map((server) => `nameserver ${server}\n`),
    ...(search.length > 0 ? [`search ${search.join(' ')}\n`] : []),
    ...(settings.length > 0 ? [`options ${settings.join(' ')}\n`] : []),
  ].join('')
}
