/** Moves money from one account to another, or does nothing and rejects. */
async function transfer(client, from, to, amount) {
  await client.query('BEGIN')
  try {
    await client.query('UPDATE accounts SET balance = balance + $2 WHERE owner = $1', [to, amount])
    await client.query('UPDATE accounts SET balance = balance - $2 WHERE owner = $1', [from, amount])
    await client.query('COMMIT')
  } catch (error) {
    await client.query('ROLLBACK')
    throw error
  }
}

module.exports = { transfer }
