/** Counts a visit of the page, and resolves to how many there were within the last day. */
async function countVisit(client, page) {
  const key = `visits:${page}`
  const count = await client.incr(key)
  if (count === 1) await client.expire(key, 24 * 60 * 60)
  return count
}

module.exports = { countVisit }
