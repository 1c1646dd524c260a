/**
 * What makes a fresh installation an image like Docker's official ones, as a shell script that gets the root as `$1`: the settings that
 * debuerreotype makes (docker-clean and so on), the package sources, and nothing left of the installation itself.
 */

import type { Release } from './distribution.js'
import type { Archive } from './mirror.js'

/** Of debuerreotype's slim variant. Copyright files stay, for legal reasons. */
const SLIM: readonly string[] = [
  'path-exclude /usr/share/doc/*',
  'path-include /usr/share/doc/*/copyright',
  'path-exclude /usr/share/man/*',
  'path-exclude /usr/share/groff/*',
  'path-exclude /usr/share/info/*',
  'path-exclude /usr/share/lintian/*',
  'path-exclude /usr/share/linda/*',
  'path-exclude /usr/share/locale/*',
  'path-include /usr/share/locale/locale.alias',
  'path-exclude /usr/share/gnome/help/*/*',
  'path-exclude /usr/share/omf/*/*-*.emf',
]

/** For dpkg during the installation: the same as `--path-exclude` on its command line. */
export function slimOptions(): string[] {
  return SLIM.map((line) => line.replace(' ', '='))
}

const CLEAN = 'rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true'

/** Files of the image, by path. */
function settings(
  release: Release,
  archives: readonly Archive[],
  components: readonly string[],
): Record<string, string> {
  const { distribution, isSlim } = release
  return {
    '/etc/apt/apt.conf.d/docker-clean': [
      '# Packages are not kept: they would be in every layer.',
      `DPkg::Post-Invoke { "${CLEAN}"; };`,
      `APT::Update::Post-Invoke { "${CLEAN}"; };`,
      'Dir::Cache::pkgcache "";',
      'Dir::Cache::srcpkgcache "";',
    ].join('\n'),
    '/etc/apt/apt.conf.d/docker-autoremove-suggests': 'Apt::AutoRemove::SuggestsImportant "false";',
    '/etc/apt/apt.conf.d/docker-gzip-indexes': 'Acquire::GzipIndexes "true";',
    '/etc/apt/apt.conf.d/docker-no-languages': 'Acquire::Languages "none";',
    '/etc/dpkg/dpkg.cfg.d/docker-apt-speedup': 'force-unsafe-io',
    ...(isSlim ? { '/etc/dpkg/dpkg.cfg.d/docker': SLIM.join('\n') } : {}),
    [`/etc/apt/sources.list.d/${distribution}.sources`]: archives
      .map(({ uri, suites }) =>
        [
          'Types: deb',
          `URIs: ${uri}`,
          `Suites: ${suites.join(' ')}`,
          `Components: ${components.join(' ')}`,
          `Signed-By: /usr/share/keyrings/${distribution}-archive-keyring.gpg`,
        ].join('\n'),
      )
      .join('\n\n'),
    // Nobody starts services while packages are installed into an image.
    '/usr/sbin/policy-rc.d': '#!/bin/sh\nexit 101',
  }
}

/** The script. Its heredocs are quoted, so that no text of the files is taken for a variable. */
export function customizeScript(release: Release, archives: readonly Archive[], components: readonly string[]): string {
  const files = Object.entries(settings(release, archives, components)).map(
    ([path, text]) => `cat > "$1${path}" <<'END_OF_FILE'\n${text}\nEND_OF_FILE`,
  )
  return [
    'set -e',
    'cd "$1"',
    ...files,
    'chmod 0755 "$1/usr/sbin/policy-rc.d"',
    ': > "$1/etc/apt/sources.list"',
    'rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap" "$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap" "$1/etc/apt/sources.list.d/"0000*.list',
    ...(release.isSlim ? ['find "$1/usr/share/doc" -mindepth 1 ! -type d ! -name copyright -delete'] : []),
    ...(release.isSlim ? ['find "$1/usr/share/doc" -mindepth 1 -type d -empty -delete'] : []),
    'rm -rf "$1/var/lib/apt/lists/"* "$1/var/cache/apt/archives/"*.deb "$1/var/cache/apt/"*.bin "$1/var/cache/ldconfig/aux-cache"',
    'rm -f "$1/var/log/dpkg.log" "$1/var/log/bootstrap.log" "$1/var/log/alternatives.log" "$1/var/log/apt/"* "$1/etc/hostname" "$1/etc/resolv.conf"',
    'rm -rf "$1/debootstrap"',
  ].join('\n')
}
