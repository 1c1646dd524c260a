export async function order(client, item) {
  const { rows } = await client.query('INSERT INTO orders (item) VALUES ($1) RETURNING id', [item])
  return rows[0].id
}

export async function send(client, id) {
  const { rowCount } = await client.query('UPDATE orders SET sent = true WHERE id = $1 AND NOT sent', [id])
  if (rowCount === 0) throw new Error(`There is no order ${id} to be sent`)
}

export async function listWaiting(client) {
  const { rows } = await client.query('SELECT item FROM orders WHERE NOT sent ORDER BY id')
  return rows.map(({ item }) => item)
}
