// Loaded into a real gateway process with `--import`: on SIGUSR2 its wall clock jumps forward by JUMP_MS.

const read = Date.now.bind(Date)
let aheadMs = 0
Date.now = () => read() + aheadMs
process.on('SIGUSR2', () => {
  aheadMs += Number(process.env.JUMP_MS)
})
