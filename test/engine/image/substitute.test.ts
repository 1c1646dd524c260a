import { describe, expect, test } from 'vitest'
import { formatReference, parseReference } from '../../../src/engine/image/reference.js'
import { pullSources, substituteReference } from '../../../src/engine/image/substitute.js'

const sources = (reference: string, environment: NodeJS.ProcessEnv) =>
  pullSources(parseReference(reference), environment).map(formatReference)

describe('a mirror', () => {
  test('stands in for Docker Hub, with or without a prefix', () => {
    const mirrored = (mirror: string) => sources('postgres:16', { MAYFLY_HUB_MIRROR: mirror })
    expect(mirrored('mirror.example')).toEqual(['mirror.example/library/postgres:16'])
    expect(mirrored('mirror:5000/hub/')).toEqual(['mirror:5000/hub/library/postgres:16'])
    expect(mirrored('[::1]:5000')).toEqual(['[::1]:5000/library/postgres:16'])
  })

  test('keeps tag and digest', () => {
    const digest = `sha256:${'a'.repeat(64)}`
    expect(sources(`a/b:1@${digest}`, { MAYFLY_HUB_MIRROR: 'm.example' })).toEqual([`m.example/a/b:1@${digest}`])
  })

  test('is one of several that are tried in order, Docker Hub only if it is named', () => {
    expect(sources('redis', { MAYFLY_HUB_MIRROR: 'one.example, two.example/hub ,docker.io' })).toEqual([
      'one.example/library/redis:latest',
      'two.example/hub/library/redis:latest',
      'docker.io/library/redis:latest',
    ])
  })

  test('is for Docker Hub alone', () => {
    expect(sources('ghcr.io/a/b:1', { MAYFLY_HUB_MIRROR: 'mirror.example' })).toEqual(['ghcr.io/a/b:1'])
  })

  test('is not needed', () => {
    expect(sources('redis', {})).toEqual(['docker.io/library/redis:latest'])
    expect(sources('redis', { MAYFLY_HUB_MIRROR: ' ' })).toEqual(['docker.io/library/redis:latest'])
  })

  test.each(['mirror', 'https://mirror.example', 'mirror.example/UPPER', 'mirror.example:port'])(
    'cannot be %s',
    (mirror) => {
      expect(() => sources('redis', { MAYFLY_HUB_MIRROR: mirror })).toThrow(
        expect.objectContaining({ code: 'INVALID_OPTION', field: 'MAYFLY_HUB_MIRROR' }),
      )
    },
  )

  test('that was given with a password does not show it', () => {
    let message = ''
    try {
      sources('redis', { MAYFLY_HUB_MIRROR: 'https://user:hunter2@mirror.example' })
    } catch (error) {
      message = `${(error as Error).message} ${JSON.stringify(error)} ${(error as Error).cause}`
    }
    expect(message).toContain('mirror.example')
    expect(message).not.toContain('hunter2')
  })
})

describe('the prefix of Testcontainers', () => {
  const TESTCONTAINERS_HUB_IMAGE_NAME_PREFIX = 'registry.example/mirror/'

  test('is put before the name as people write it', () => {
    const environment = { TESTCONTAINERS_HUB_IMAGE_NAME_PREFIX }
    expect(sources('postgres:16', environment)).toEqual(['registry.example/mirror/postgres:16'])
    expect(sources('a/b', environment)).toEqual(['registry.example/mirror/a/b:latest'])
    expect(sources('quay.io/a/b', environment)).toEqual(['quay.io/a/b:latest'])
  })

  test('gives way to a mirror', () => {
    const environment = { TESTCONTAINERS_HUB_IMAGE_NAME_PREFIX, MAYFLY_HUB_MIRROR: 'mirror.example' }
    expect(sources('redis', environment)).toEqual(['mirror.example/library/redis:latest'])
  })
})

describe('a substitution', () => {
  test('gets the canonical name and may give a short one', () => {
    const seen: string[] = []
    const substitute = (reference: string) => {
      seen.push(reference)
      return 'mine.example/pg'
    }
    expect(formatReference(substituteReference(parseReference('postgres:16'), substitute))).toBe(
      'mine.example/pg:latest',
    )
    expect(seen).toEqual(['docker.io/library/postgres:16'])
  })

  test('must give a reference', () => {
    const reference = parseReference('postgres')
    expect(() => substituteReference(reference, () => 'NO')).toThrow(
      expect.objectContaining({ code: 'INVALID_REFERENCE' }),
    )
    expect(() => substituteReference(reference, () => undefined as unknown as string)).toThrow(TypeError)
    expect(substituteReference(reference)).toBe(reference)
  })
})
