// Numbers and times as people read them.
export function bytes(size: number | null | undefined): string {
  if (size === null || size === undefined) return ''
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let value = size, unit = 0
  for (; value >= 1000 && unit < units.length - 1; unit += 1) value /= 1000
  return `${value >= 100 || !unit ? Math.round(value) : value.toFixed(1)} ${units[unit]}`
}

export function span(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined) return '–'
  if (seconds < 90) return `${seconds < 10 ? Math.round(seconds * 10) / 10 : Math.round(seconds)} s`
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`
}

export const between = (start: string | null, end: string | null): number | null =>
  start && end ? (Date.parse(end) - Date.parse(start)) / 1000 : null

export const ago = (time: string): string => `${span(Math.max(0, Math.round((Date.now() - Date.parse(time)) / 1000)))} ago`
