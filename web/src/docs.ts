// The documentation's colours follow the system's.
import './docs.css'

const dark = matchMedia('(prefers-color-scheme: dark)')
const follow = (): void => {
  document.querySelector('rapi-doc')?.setAttribute('theme', dark.matches ? 'dark' : 'light')
}
dark.addEventListener('change', follow)
follow()
