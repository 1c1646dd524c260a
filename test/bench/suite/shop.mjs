// What each test of the suite does with its database, whoever started it.
import pg from 'pg'
import { expect } from 'vitest'

/** Numbers of the tests of a file. */
export const TESTS = Array.from({ length: Number(process.env.BENCH_TESTS_PER_FILE) }, (_, index) => index)

/** An order is placed, and it is the only one there is. */
export async function placeOrder(uri, number) {
  const client = new pg.Client({ connectionString: uri })
  await client.connect()
  try {
    const { rows } = await client.query('INSERT INTO orders (customer) VALUES ($1) RETURNING id', [number + 1])
    await client.query('INSERT INTO items VALUES ($1, $2, 3)', [rows[0].id, number + 1])
    const totals = await client.query('SELECT order_id, total FROM totals')
    expect(totals.rows).toEqual([{ order_id: 1, total: `${3 * (number + 1)}.00` }])
  } finally {
    await client.end()
  }
}
