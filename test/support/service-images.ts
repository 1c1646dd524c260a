/**
 * The images of `examples/images`, built with our own builder, for tests with real services.
 *
 * They lie in one store, which all test processes share and which stays from run to run: `mayfly-test-images-<uid>` in the
 * temporary directory of the system. What is built there once is there at once; a changed Dockerfile is built again.
 */

import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Engine } from '../../src/engine/engine.js'
import { DEBIAN, loadDebian, missingBootstrap } from './base-images.js'
import { withFileLock } from './file-lock.js'

/** Directory of `examples/images`, and the names under which Docker Hub knows what is built there. */
const REFERENCES = {
  postgres: ['postgres:15'],
  mariadb: ['mariadb:10.11'],
  mysql: ['mysql:5.7'],
  redis: ['redis:7.0', 'redis:7'],
  rabbitmq: ['rabbitmq:3.10-management', 'rabbitmq:3-management'],
  memcached: ['memcached:1.6'],
  mosquitto: ['eclipse-mosquitto:2.0'],
  nats: ['nats:2.9'],
  etcd: ['quay.io/coreos/etcd:v3.4.23'],
  nginx: ['nginx:1.22'],
  registry: ['registry:2'],
} as const satisfies Record<string, readonly [string, ...string[]]>

export type Service = keyof typeof REFERENCES

export const SERVICES = Object.keys(REFERENCES) as Service[]
/** The store in which they lie: `Engine.open({ home: SERVICE_HOME })`. */
export const SERVICE_HOME = join(tmpdir(), `mayfly-test-images-${process.getuid?.() ?? 0}`)
/** How long the first build of one may take, all else being busy: for timeouts of hooks. */
export const SERVICE_IMAGE_TIMEOUT_MS = 600_000

const IMAGES = fileURLToPath(new URL('../../examples/images/', import.meta.url))
const ready = new Map<Service, Promise<string>>()

/** What keeps them from being built here, or undefined. */
export const missingServiceImages = missingBootstrap

/** The reference of a service's image. It is in the store of {@link SERVICE_HOME} afterwards. */
export function serviceImage(service: Service): Promise<string> {
  const known = ready.get(service)
  if (known) return known
  const building = buildService(service)
  ready.set(service, building)
  building.catch(() => ready.delete(service))
  return building
}

async function buildService(service: Service): Promise<string> {
  await using engine = await Engine.open({ home: SERVICE_HOME })
  await withFileLock(`${SERVICE_HOME}.debian.lock`, SERVICE_IMAGE_TIMEOUT_MS, async () => {
    const known = await engine.images.get(DEBIAN).catch(() => undefined)
    if (!known) await loadDebian(engine)
  })
  // MariaDB has to do for MySQL, of which Debian has no package.
  const directory = join(IMAGES, service === 'mysql' ? 'mariadb' : service)
  const tags = REFERENCES[service]
  await withFileLock(`${SERVICE_HOME}.${service}.lock`, SERVICE_IMAGE_TIMEOUT_MS, () =>
    engine.images.build({ context: { directory }, tags }),
  )
  return tags[0]
}

/** Makes the images of services known as these references in a store of a test's own. */
export async function copyServiceImages(home: string, services: Readonly<Record<string, Service>>): Promise<void> {
  const built = await Promise.all(Object.values(services).map(serviceImage))
  await using from = await Engine.open({ home: SERVICE_HOME, network: false })
  await using to = await Engine.open({ home, network: false })
  await to.images.load(from.images.save(built))
  for (const [index, reference] of Object.keys(services).entries()) await to.images.tag(built[index]!, reference)
}
