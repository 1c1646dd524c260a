import type { Client } from 'pg'

export interface User {
  id: number
  email: string
  name: string
}

export async function addUser(client: Client, email: string, name: string): Promise<User> {
  const { rows } = await client.query('INSERT INTO users (email, name) VALUES ($1, $2) RETURNING *', [email, name])
  return rows[0]
}

export async function listNames(client: Client): Promise<string[]> {
  const { rows } = await client.query('SELECT name FROM users ORDER BY id')
  return rows.map(({ name }) => name)
}
