/** Whether a registry accepts credentials, before they are kept. */

import { RegistryClient } from './client.js'
import type { RegistryCredentials } from './credentials.js'
import type { Purpose } from './failure.js'
import { type RegistryOptions, Transport } from './transport.js'

/**
 * Resolves when the registry lets these credentials in. Throws REGISTRY_DENIED when it does not, and the other REGISTRY_ codes.
 */
export async function checkLogin(
  registry: string,
  credentials: RegistryCredentials,
  signal?: AbortSignal,
  options?: RegistryOptions,
): Promise<void> {
  const transport = new Transport(options)
  const purpose: Purpose = { action: 'log in to', subject: registry }
  try {
    await new RegistryClient({
      transport,
      registry,
      repository: '',
      purpose,
      credentials: () => credentials,
      signal,
    }).ping()
  } finally {
    await transport.close()
  }
}
