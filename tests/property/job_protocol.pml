/* The protocol of the job table (src/gooseherd/domain/states.py, store/edges.py), for spin: two API processes, each with
 * a dispatcher, a reaper and executions, their workers, those who ask, and everything that dies or stands still.
 *
 * One conditional write of the store is one atomic step. Time is nothing but order: a lease can run out at any moment at
 * which its holder has not renewed it. How often things go wrong is bounded, or there would be no end.
 *
 * It asserts: one active job a key; terminal is terminal; completed means published; a death ends no attempt but the one
 * that died; a reaper leaves alone what its own process finalizes; and when nothing can happen any more, every job
 * has ended.
 *
 * -DNO_FENCE: writes do not look at the fence. -DNO_MARKER: the reaper does not look at its process's finalizers.
 * -DNO_REAPER: nobody adopts. Each breaks one of these, and test_job_protocol.py wants that to be found. */

#ifndef CRASHES
#define CRASHES 1 /* of API processes */
#endif
#ifndef DEATHS
#define DEATHS 1 /* of workers, with their attempt */
#endif
#ifndef STALLS
#define STALLS 1 /* leases that run out although their holder lives */
#endif
#ifndef CLAIMS
#define CLAIMS 2
#endif
#ifndef CANCELS
#define CANCELS 1
#endif

#define JOBS 2
#define PROCESSES 2
#define TRIES 2
#define ATTEMPTS 5
#define NOBODY 255

#define NONE 0
#define PENDING 1
#define RUNNING 2
#define FINALIZING 3
#define COMPLETED 4
#define FAILED 5
#define CANCELLED 6

#define ACTIVE(j) (status[j] >= PENDING && status[j] <= FINALIZING)
#define LEASED(j) (status[j] == RUNNING || status[j] == FINALIZING)
#define TERMINAL(j) (status[j] >= COMPLETED)
#define ENDED(j) (status[j] == NONE || TERMINAL(j))

/* The store: one key, whose jobs come one after the other. */
byte status[JOBS], fence[JOBS], attempt[JOBS], failures[JOBS], owner[JOBS];
byte leased_in[JOBS]; /* the life of the owner in which it got the lease; only the model knows that */
bool expired[JOBS], unwanted[JOBS];

/* Workers: attempt a of job j is at j * ATTEMPTS + a. What they publish has the key's name, whichever job it was for. */
bool alive[JOBS * ATTEMPTS];
bool published;

/* API processes: what began in an earlier life of one is dead. */
byte life[PROCESSES];
bool marked[PROCESSES * JOBS];
chan follow[PROCESSES] = [4] of { byte, byte, byte, byte, bool }; /* job, fence, attempt, life, adopted */

byte crashes = CRASHES, deaths = DEATHS, stalls = STALLS, claims = CLAIMS, cancels = CANCELS;

#ifdef NO_FENCE
#define HOLDS (status[j] != NONE)
#else
#define HOLDS (fence[j] == mine)
#endif
#define HERE (born == life[p])
#define DEAD_OWNER(j) (owner[j] != NOBODY && leased_in[j] != life[owner[j]])

inline end(j, how) {
    assert(!TERMINAL(j));
    assert(how != COMPLETED || published);
    status[j] = how;
    owner[j] = NOBODY;
    expired[j] = false
}

inline requeue(j) {
    assert(!TERMINAL(j));
    status[j] = PENDING;
    owner[j] = NOBODY;
    expired[j] = false
}

/* One execution: a job from its lease or its adoption to its next state (control/execution.py). */
proctype execution(byte p) {
    byte j, mine, number, born;
    bool adopted, lost;
end_wait:
    follow[p] ? j, mine, number, born, adopted;
    /* The attempt is started on a worker; whoever adopts finds it there, or does not. */
    if
    :: atomic { HERE && !adopted -> alive[j * ATTEMPTS + number] = true }
    :: adopted
    :: !HERE -> goto forgotten
    fi;
    /* Follow it, with a heartbeat, until it has ended, is not wanted any more, or the lease is gone. */
    do
    :: atomic { HERE && fence[j] == mine && LEASED(j) && expired[j] -> expired[j] = false }
    :: atomic { HERE && fence[j] != mine -> goto forgotten }
    :: atomic { HERE && fence[j] == mine && status[j] == RUNNING && unwanted[j] -> break }
    :: atomic { HERE && !alive[j * ATTEMPTS + number] -> goto settle }
    :: !HERE -> goto forgotten
    od;
    atomic { HERE -> alive[j * ATTEMPTS + number] = false } unless { !HERE };
    atomic {
        if
        :: HERE && HOLDS && status[j] == RUNNING ->
           if
           :: unwanted[j] -> end(j, CANCELLED)
           :: else -> requeue(j) /* wanted again meanwhile */
           fi
        :: else
        fi;
        goto forgotten
    }
settle:
    atomic {
        if
        :: HERE -> marked[p * JOBS + j] = true
        :: else -> goto forgotten
        fi
    }
    /* What is published counts, whoever died after it. */
    if
    :: atomic {
           HERE && published ->
           if
           :: HOLDS && status[j] == RUNNING -> assert(!TERMINAL(j)); status[j] = FINALIZING
           :: HOLDS && status[j] == FINALIZING
           :: else -> lost = true
           fi
       }
       if
       :: lost
       :: atomic {
              !lost && HERE ->
              if
              :: HOLDS && status[j] == FINALIZING -> end(j, COMPLETED)
              :: else
              fi
          }
       :: !HERE -> goto forgotten
       fi
    :: atomic {
           HERE && !published ->
           if
           :: HOLDS && LEASED(j) ->
              assert(attempt[j] == number || !alive[j * ATTEMPTS + attempt[j]]);
              failures[j]++;
              if
              :: failures[j] >= TRIES -> end(j, FAILED)
              :: else -> requeue(j)
              fi
           :: else
           fi
       }
    :: !HERE -> goto forgotten
    fi;
    atomic {
        if
        :: HERE -> marked[p * JOBS + j] = false
        :: else
        fi
    }
forgotten:
    atomic {
        j = 0; mine = 0; number = 0; born = 0; adopted = false; lost = false;
        goto end_wait
    }
}

proctype dispatcher(byte p) {
    byte j, seen, born;
end_wait:
    atomic {
        if
        :: status[0] == PENDING && nfull(follow[p]) -> j = 0
        :: status[1] == PENDING && nfull(follow[p]) -> j = 1
        fi;
        seen = fence[j];
        born = life[p]
    }
    atomic {
        if
        :: HERE && status[j] == PENDING && fence[j] == seen ->
           status[j] = RUNNING; owner[j] = p; leased_in[j] = life[p]; expired[j] = false;
           fence[j]++; attempt[j]++;
           assert(attempt[j] < ATTEMPTS);
           follow[p] ! j, fence[j], attempt[j], born, false
        :: else
        fi;
        j = 0; seen = 0; born = 0;
        goto end_wait
    }
}

#ifdef NO_MARKER
#define FINALIZED_HERE(j) false
#else
#define FINALIZED_HERE(j) marked[p * JOBS + j]
#endif

proctype reaper(byte p) {
    byte j, seen, born;
end_wait:
    atomic {
        if
        :: LEASED(0) && expired[0] && !FINALIZED_HERE(0) && nfull(follow[p]) -> j = 0
        :: LEASED(1) && expired[1] && !FINALIZED_HERE(1) && nfull(follow[p]) -> j = 1
        fi;
        seen = fence[j];
        born = life[p]
    }
    atomic {
        if
        :: HERE && LEASED(j) && fence[j] == seen && expired[j] && !FINALIZED_HERE(j) ->
           assert(!marked[p * JOBS + j]);
           owner[j] = p; leased_in[j] = life[p]; expired[j] = false;
           fence[j]++;
           follow[p] ! j, fence[j], attempt[j], born, true
        :: else
        fi;
        j = 0; seen = 0; born = 0;
        goto end_wait
    }
}

/* Each attempt publishes and ends, or dies. */
proctype worker(byte j) {
    byte a = 1;
end_wait:
    do
    :: atomic { alive[j * ATTEMPTS + a] -> published = true; alive[j * ATTEMPTS + a] = false }
    :: atomic { alive[j * ATTEMPTS + a] && deaths > 0 -> deaths--; alive[j * ATTEMPTS + a] = false }
    :: atomic { !alive[j * ATTEMPTS + a] && a < attempt[j] -> a++ }
    od
}

/* The lease of a dead owner runs out in any case, that of one who only stands still a few times. */
proctype clock() {
end_wait:
    do
    :: atomic { LEASED(0) && !expired[0] && DEAD_OWNER(0) -> expired[0] = true }
    :: atomic { LEASED(1) && !expired[1] && DEAD_OWNER(1) -> expired[1] = true }
    :: atomic { LEASED(0) && !expired[0] && !DEAD_OWNER(0) && stalls > 0 -> stalls--; expired[0] = true }
    :: atomic { LEASED(1) && !expired[1] && !DEAD_OWNER(1) && stalls > 0 -> stalls--; expired[1] = true }
    od
}

/* Whoever asks, and whoever withdraws. */
proctype requesters() {
    byte next;
end_wait:
    do
    :: atomic {
           claims > 0 && !published ->
           claims--;
           if
           :: ACTIVE(0) -> unwanted[0] = false
           :: ACTIVE(1) -> unwanted[1] = false
           :: !ACTIVE(0) && !ACTIVE(1) && next < JOBS ->
              assert(status[next] == NONE);
              status[next] = PENDING;
              next++
           :: else
           fi;
           assert(!(ACTIVE(0) && ACTIVE(1)))
       }
    :: atomic { cancels > 0 && status[0] == PENDING -> cancels--; end(0, CANCELLED) }
    :: atomic { cancels > 0 && status[1] == PENDING -> cancels--; end(1, CANCELLED) }
    :: atomic { cancels > 0 && status[0] == RUNNING -> cancels--; unwanted[0] = true }
    :: atomic { cancels > 0 && status[1] == RUNNING -> cancels--; unwanted[1] = true }
    od
}

proctype kills() {
end_wait:
    do
    :: d_step { crashes > 0 -> crashes--; life[0]++; marked[0] = false; marked[1] = false }
    od
}

/* No job without a future. */
proctype nothing_left() {
end_wait:
    timeout -> assert(ENDED(0) && ENDED(1))
}

init {
    atomic {
        owner[0] = NOBODY; owner[1] = NOBODY;
        run requesters(); run clock(); run kills(); run nothing_left();
        run worker(0); run worker(1);
        run dispatcher(0); run dispatcher(1);
        run execution(0); run execution(1);
#ifndef NO_REAPER
        run reaper(0); run reaper(1);
#endif
    }
}
