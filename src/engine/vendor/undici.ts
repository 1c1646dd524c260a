/**
 * HTTP/1.1 with proxies, own authorities and limits of time: of undici what registries and remote files need. Bundled into the package
 * and loaded when needed, because undici whole is larger than the rest of the library.
 */

import type { Dispatcher } from 'undici'
import api from 'undici/lib/api/index.js'
import AgentClass from 'undici/lib/dispatcher/agent.js'
import DispatcherClass from 'undici/lib/dispatcher/dispatcher.js'
import EnvHttpProxyAgentClass from 'undici/lib/dispatcher/env-http-proxy-agent.js'
import ProxyAgentClass from 'undici/lib/dispatcher/proxy-agent.js'

export type { Dispatcher } from 'undici'

export const Agent = AgentClass
export const EnvHttpProxyAgent = EnvHttpProxyAgentClass
export const ProxyAgent = ProxyAgentClass

// As the package's own index does it.
Object.assign(DispatcherClass.prototype, api)

export type RequestOptions = Omit<Dispatcher.RequestOptions, 'origin' | 'path' | 'method'> & {
  readonly method?: Dispatcher.HttpMethod
  readonly dispatcher: Dispatcher
}

/** One request and the head of its answer. Redirects are not followed. @default method: 'GET' */
export function request(url: URL, { dispatcher, method = 'GET', ...options }: RequestOptions) {
  return dispatcher.request({ ...options, origin: url.origin, path: `${url.pathname}${url.search}`, method })
}
