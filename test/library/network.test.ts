import { describe, expect, test } from 'vitest'
import { GenericContainer, Network } from '../../src/index.js'
import { IMAGE, libraryWorld, obstacle } from './support/world.js'

describe.skipIf(obstacle())('a network', () => {
  libraryWorld()
  const sleeper = new GenericContainer(IMAGE).withCommand(['sleep', '600'])

  test('says why it cannot be made', async () => {
    await using network = await new Network({ name: 'backend', subnet: '10.213.7.0/24' }).start()
    const refused: [Network, string][] = [
      [new Network({ name: 'backend' }), 'NAME_TAKEN'],
      [new Network({ subnet: '10.213.7.128/25' }), 'SUBNET_IN_USE'],
      [new Network({ subnet: '10.213.7.0' }), 'INVALID_OPTION'],
      [new Network({ gateway: '10.213.8.1' }), 'INVALID_OPTION'],
    ]
    for (const [one, code] of refused) await expect(one.start()).rejects.toMatchObject({ code })
    expect(network.getSubnet()).toBe('10.213.7.0/24')
  })

  test('says why a container cannot be put on it or taken off it', async () => {
    await using network = await new Network({ subnet: '10.213.9.0/24' }).start()
    await using on = await sleeper.withNetwork(network).start()
    await using off = await sleeper.start()
    await using without = await sleeper.withNetworkMode('none').start()
    const ipAddress = on.getIpAddress(network.getName())
    await expect(network.connect(on)).rejects.toMatchObject({ code: 'NETWORK_CONNECTED' })
    await expect(network.connect(off, { alias: ['db'] } as object)).rejects.toMatchObject({ field: 'network.alias' })
    await expect(network.connect(off, { ipAddress })).rejects.toMatchObject({ code: 'ADDRESS_IN_USE' })
    await expect(network.connect(off, { ipAddress: '10.214.0.1' })).rejects.toMatchObject({ code: 'INVALID_OPTION' })
    await expect(network.connect(without)).rejects.toMatchObject({ code: 'NOT_SUPPORTED' })
    await expect(network.disconnect(off)).rejects.toMatchObject({ code: 'NETWORK_NOT_CONNECTED' })
    await network.connect(off)
    await network.disconnect(off)
  })

  test('stays while a container is on it', async () => {
    const network = await new Network().start()
    {
      await using _container = await sleeper.withNetwork(network).start()
      await expect(network.stop()).rejects.toMatchObject({ code: 'NETWORK_IN_USE' })
    }
    await network.stop()
    await network.stop()
  })
})
