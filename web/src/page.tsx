import './page.css'
import { render } from 'preact'
declare const IGV_FILE: string
console.log(IGV_FILE)
render(<p>gooseherd</p>, document.getElementById('page')!)
