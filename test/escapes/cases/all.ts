import type { Case } from '../world.ts'
import { copies } from './copies.ts'
import { races } from './races.ts'
import { starts } from './starts.ts'

/** Every case, each against an engine of root and one of an ordinary user. */
export const cases: readonly Case[] = [...starts, ...copies, ...races]
