import { describe, expect, it } from 'vitest'
import { releaseOf } from '../../../src/engine/bootstrap/distribution.js'

describe('the release that a name means', () => {
  it.each([
    ['debian', 'trixie', false],
    ['debian:12', 'bookworm', false],
    ['debian:12.5-slim', 'bookworm', true],
    ['debian:bookworm-slim', 'bookworm', true],
    ['docker.io/library/debian:trixie', 'trixie', false],
    ['debian:stable-slim', 'stable', true],
    ['debian:sid', 'sid', false],
    ['ubuntu:24.04', 'noble', false],
    ['ubuntu:jammy', 'jammy', false],
  ])('%s', (reference, suite, isSlim) => {
    expect(releaseOf(reference)).toMatchObject({ suite, isSlim })
  })

  it.each([
    'debian:7',
    'debian:slim',
    'debian:bookworm-backports',
    'ubuntu:24.04-slim',
    'ubuntu:toString',
    'alpine',
    'me/debian:12',
    'localhost:5000/debian:12',
    `debian@sha256:${'a'.repeat(64)}`,
  ])('is none for %s', (reference) => {
    expect(() => releaseOf(reference)).toThrow(/no such release is known[\s\S]*bookworm/)
  })
})
