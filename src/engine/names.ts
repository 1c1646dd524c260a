/** Names for containers that were given none. */

import { randomInt } from 'node:crypto'

const QUALITIES =
  'amber agile bold brave breezy bright brisk calm candid clever cosy crisp daring dapper deft eager early fabled fair fleet fond frank fresh gentle glad golden grand happy hardy hazel humble jolly keen kind lively lucid lucky mellow merry mild mossy neat nimble noble patient placid plucky proud quick quiet rapid ready rosy ruddy rustic sage sandy serene sharp silent silver sleek smart snug solid spry steady stout sunny swift tidy tiny tranquil true upbeat vivid warm wise witty young zesty'.split(
    ' ',
  )
const ANIMALS =
  'avocet badger beaver bison bittern bunting caddis chamois cicada condor cormorant crane cricket curlew damselfly dipper dolphin dormouse dragonfly dunlin egret eider falcon ferret finch firefly fulmar gannet gecko godwit grebe gull harrier hawk hedgehog heron hoopoe ibex ibis jackdaw jay kestrel kingfisher kite lapwing lark linnet lynx magpie mantis marmot marten mayfly merlin moth newt nightjar nuthatch oriole osprey otter owl petrel pipit plover puffin quail raven redstart robin rook salmon sandpiper seal shrew shrike siskin skylark snipe sparrow starling stoat stork swallow swift teal tern thrush toad trout turnstone vole wagtail warbler weasel wren'.split(
    ' ',
  )

/** Two words, such as `brisk_heron`, that are not taken; with a number behind them when chance is unkind. */
export function inventName(isTaken: (name: string) => boolean): string {
  for (let attempt = 0; ; attempt++) {
    const name = `${QUALITIES[randomInt(QUALITIES.length)]}_${ANIMALS[randomInt(ANIMALS.length)]}`
    const candidate = attempt < 4 ? name : `${name}${randomInt(10 ** Math.min(attempt, 9))}`
    if (!isTaken(candidate)) return candidate
  }
}
