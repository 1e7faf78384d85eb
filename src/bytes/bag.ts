// Things under way, in no order: taken in and let go all the time, looked through now and then. A Map or a Set does the
// same, but not for what is made and forgotten with each request: as they grow and shrink they are made anew, and V8
// links each table to the one that follows it. Once such a table is old, all that is chained to it is kept, and copied,
// until the next full collection, and so is every request that was in one.

export interface Bag<T> {
  readonly size: number
  /** The seat is for `remove`. Takes constant time. */
  add(item: T): Seat<T>
  /** No effect on a seat that has been given back. Takes constant time. */
  remove(seat: Seat<T>): void
  /** All that are there now, and stay so while what is done to them changes who is. */
  list(): T[]
  seats(): Seat<T>[]
}

export interface Seat<T> {
  /** Undefined once it has been given back. */
  item: T | undefined
  at: number
}

export function createBag<T>(): Bag<T> {
  const seats: Seat<T>[] = []
  return {
    get size() {
      return seats.length
    },
    add(item) {
      const seat = { item, at: seats.length }
      seats.push(seat)
      return seat
    },
    remove(seat) {
      if (seat.item === undefined) return
      seat.item = undefined
      const last = seats.pop()
      if (last === undefined || last === seat) return
      seats[seat.at] = last
      last.at = seat.at
    },
    list: () => seats.flatMap(({ item }) => (item === undefined ? [] : [item])),
    seats: () => [...seats],
  }
}
