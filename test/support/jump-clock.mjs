// Loaded into a real gateway process with `--import`: its wall clock is CLOCK_OFF_MS wrong from the start, and jumps
// forward by JUMP_MS on SIGUSR2.

const read = Date.now.bind(Date)
let aheadMs = Number(process.env.CLOCK_OFF_MS ?? 0)
Date.now = () => read() + aheadMs
process.on('SIGUSR2', () => {
  aheadMs += Number(process.env.JUMP_MS)
})
