// Uploads as people see them: how far each is, and where to let files go.
import { bytes } from './words'
import { cancelUpload, forgetDone, over, sendAgain, sending, underWay } from './uploads'

export function UploadList() {
  if (!sending.value.length) return null
  return (
    <ul class="batches uploads" aria-label="Uploads">
      {sending.value.map(one => (
        <li class="batch" key={one.number}>
          <progress max={one.size || 1} value={one.sent} aria-label={`Progress of the upload of ${one.name}`} />
          <span>{one.name} <span class="dim">{bytes(one.size)}</span></span>
          <span class={one.state === 'failed' ? 'bad' : one.state === 'done' ? 'good' : one.state === 'interrupted' ? 'note-text' : 'dim'}>{one.text}</span>
          {one.state === 'failed' && <button class="quiet" aria-label={`Try the upload of ${one.name} again`} onClick={() => sendAgain(one.number)}>Try again</button>}
          {one.state !== 'done' && <button class="quiet" aria-label={`Cancel the upload of ${one.name}`} onClick={() => cancelUpload(one.number)}>Cancel</button>}
        </li>
      ))}
      {!underWay.value.length && <li><button class="quiet" onClick={forgetDone}>Dismiss</button></li>}
    </ul>
  )
}

export const Dropping = () => (over.value ? <div class="dropping" aria-hidden="true"><p>Let go to add these files</p></div> : null)
