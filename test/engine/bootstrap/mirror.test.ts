import { describe, expect, it } from 'vitest'
import { releaseOf } from '../../../src/engine/bootstrap/distribution.js'
import { archivesOf, parseDeb822, parseLines } from '../../../src/engine/bootstrap/mirror.js'

const BOOKWORM = releaseOf('debian:bookworm')
const amd64 = { architecture: 'amd64' }

describe('sources of apt', () => {
  it('are lines', () => {
    expect(
      parseLines(`# deb http://no bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://mirror.corp/debian/ bookworm main contrib # why
deb-src http://no bookworm main`),
    ).toEqual([
      {
        uri: 'http://mirror.corp/debian',
        suite: 'bookworm',
        components: ['main', 'contrib'],
        signedBy: '/usr/share/keyrings/x.gpg',
      },
    ])
  })

  it('are stanzas', () => {
    const found = parseDeb822(`Types: deb deb-src
# a comment
URIs: http://a/debian
  http://b/debian
Suites: bookworm bookworm-updates
Components: main

Types: deb
Enabled: no
URIs: http://c/debian
Suites: bookworm
Components: main
`)
    expect(found.map(({ uri, suite }) => `${uri} ${suite}`)).toEqual([
      'http://a/debian bookworm',
      'http://a/debian bookworm-updates',
      'http://b/debian bookworm',
      'http://b/debian bookworm-updates',
    ])
  })
})

describe('the archives of a release', () => {
  const corporate = parseLines(`deb http://packages.example/php bookworm main
deb https://mirror.corp/artifactory/deb-proxy bookworm main
deb https://mirror.corp/artifactory/deb-proxy bookworm-updates main
deb https://mirror.corp/artifactory/security-proxy bookworm-security main
deb [signed-by=/etc/apt/keyrings/other.gpg] http://other.example/debian bookworm main`)

  it('come from where this machine has its own, whatever its release', () => {
    expect(archivesOf(BOOKWORM, corporate, amd64)).toEqual([
      { uri: 'https://mirror.corp/artifactory/deb-proxy', suites: ['bookworm', 'bookworm-updates'] },
      { uri: 'https://mirror.corp/artifactory/security-proxy', suites: ['bookworm-security'] },
    ])
    expect(archivesOf(releaseOf('debian:13'), corporate, amd64)[0]).toEqual({
      uri: 'https://mirror.corp/artifactory/deb-proxy',
      suites: ['trixie', 'trixie-updates'],
    })
  })

  it('come from the usual mirrors where nothing is known', () => {
    expect(archivesOf(BOOKWORM, [], amd64).map(({ uri }) => uri)).toEqual([
      'http://deb.debian.org/debian',
      'http://deb.debian.org/debian-security',
    ])
    expect(archivesOf(releaseOf('ubuntu:24.04'), corporate, amd64)).toEqual([
      {
        uri: 'http://archive.ubuntu.com/ubuntu',
        suites: ['noble', 'noble-updates', 'noble-backports', 'noble-security'],
      },
    ])
    expect(archivesOf(releaseOf('ubuntu:24.04'), [], { architecture: 'arm64' })[0]!.uri).toBe(
      'http://ports.ubuntu.com/ubuntu-ports',
    )
    expect(archivesOf(releaseOf('debian:sid'), [], amd64)).toEqual([
      { uri: 'http://deb.debian.org/debian', suites: ['sid'] },
    ])
  })

  it('come from the mirror that was asked for', () => {
    const mirror = 'http://127.0.0.1:3142/debian'
    expect(archivesOf(BOOKWORM, corporate, { ...amd64, mirror })[0]!.uri).toBe(mirror)
  })
})
