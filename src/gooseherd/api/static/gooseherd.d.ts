/**
 * Tells a page when files of a gooseherd service are ready, and what a viewer needs to draw them. For progress, not for
 * necessity: a viewer's own requests are held by the service until the bytes are there.
 */
/** Of this interface; `/static/gooseherd-1.js` stays with the 1. */
export declare const version: string;
/** How far the work on one file is. */
export interface Progress {
    /** The address that was asked for. */
    url: string;
    /** `unreachable`: the service does not answer just now, and is asked again. */
    status: 'pending' | 'running' | 'finalizing' | 'completed' | 'unreachable';
    /** Of the whole job, 0 to 100; it never falls. */
    percent: number;
    /** In words: its place in the queue, or its step. */
    text: string;
    /** Jobs before it in the queue, where that is known. */
    position: number | null;
    eta_seconds: number | null;
    job_id: string | null;
}
/** What `ready` and `track` may be given. */
export interface Options {
    /** Ends the waiting; the work goes on. */
    signal?: AbortSignal | undefined;
    /** Sent with each request, such as a key. With any of them browsers ask for permission first (CORS preflight). */
    headers?: Record<string, string> | undefined;
}
export interface ReadyOptions extends Options {
    onProgress?: ((progress: Progress) => void) | undefined;
    /** Try again what failed a moment ago. */
    retry?: boolean | undefined;
}
export interface TrackOptions extends Options {
    /** Address of the service; unset: where this script was loaded from. */
    base?: string | URL | undefined;
}
/** A job as `GET /jobs/{id}` gives it, as far as it is read here. */
export interface Job {
    job_id: string;
    status: 'pending' | 'running' | 'finalizing' | 'completed' | 'failed' | 'cancelled';
    position?: number | null;
    waiting?: {
        reason: string;
        detail: string;
        next_try_seconds?: number | null;
    } | null;
    progress: {
        step: string;
        percent: number;
        eta_seconds: number | null;
    };
    reason?: string | null;
    detail?: string;
    retryable?: boolean;
}
/** A file that does not become ready: its work failed or was cancelled, or the service refuses it. */
export declare class NotReady extends Error {
    readonly url: string;
    /** Of the closed list of reasons, or the last word of the problem's type. */
    readonly reason: string;
    /** Whether a new try may end better. */
    readonly retryable: boolean;
    readonly job_id: string | null;
    name: string;
    constructor(url: string, 
    /** Of the closed list of reasons, or the last word of the problem's type. */
    reason: string, detail: string, 
    /** Whether a new try may end better. */
    retryable: boolean, job_id?: string | null);
}
/** Resolves when each address answers bytes; starts the work where need be and joins what is under way.
 *
 * Restarts of the service and interruptions of the network are waited out; end that with `signal`.
 * Rejects with `NotReady`, or with the signal's reason.
 */
export declare function ready(urls: string | URL | Iterable<string | URL>, options?: ReadyOptions): Promise<void>;
/** What `viewer` (`gosling`, `igv`, `jbrowse`, `ucsc`, `shell`, `python`) needs for the file `id` (`DCC/ID`): a
 * specification as data where it reads such, else a text. */
export declare function track(viewer: string, id: string, options?: TrackOptions): Promise<unknown>;
/** Where a job stands, in words. */
export declare function describe(job: Job): string;
