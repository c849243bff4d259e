/* The warm floor (src/gooseherd/domain/warm_floor.py, control/warm_floor.py), for spin: two API processes that hold one
 * floor together by slots in the store, their launches, jobs that take workers, and what dies.
 *
 * One conditional write of the store is one atomic step; what a process has seen before it may be old by then.
 *
 * It asserts: never more workers of the floor than it has slots, those aside that are being stopped; and when nothing can
 * happen any more, each slot has a worker that is ready.
 *
 * -DPER_PROCESS: each process has slots of its own. -DBLIND: a slot is reserved although it is not empty any more.
 * Each breaks one of these, and test_job_protocol.py wants that to be found. */

#ifndef CRASHES
#define CRASHES 1 /* of API processes */
#endif
#ifndef DEATHS
#define DEATHS 1 /* of workers */
#endif
#ifndef TAKEN
#define TAKEN 2 /* workers that jobs take */
#endif

#define FLOOR 2
#define PROCESSES 2

#define EMPTY 0
#define STARTING 1
#define READY 2
#define ENDING 3

#ifdef PER_PROCESS
#define SLOTS 4
#define AT(s) (p * FLOOR + s)
#else
#define SLOTS 2
#define AT(s) (s)
#endif

byte state[SLOTS];
byte launcher[SLOTS], launched_in[SLOTS]; /* who launches, and in which of its lives */
bool worker[SLOTS];                       /* there is one, starting or ready */
byte life[PROCESSES];
byte crashes = CRASHES, deaths = DEATHS, taken = TAKEN;

#define HERE (born == life[p])
#define ORPHANED(s) (state[AT(s)] == STARTING && launched_in[AT(s)] != life[launcher[AT(s)]])
#define LOST(s) (state[AT(s)] == READY && !worker[AT(s)])
#define TO_DO(s) (state[AT(s)] == EMPTY || state[AT(s)] == ENDING || ORPHANED(s) || LOST(s))

#ifdef PER_PROCESS
#define HELD ((worker[0] && state[0] != ENDING) + (worker[1] && state[1] != ENDING) + \
              (worker[2] && state[2] != ENDING) + (worker[3] && state[3] != ENDING))
#else
#define HELD ((worker[0] && state[0] != ENDING) + (worker[1] && state[1] != ENDING))
#endif

/* One pass of the loop over one slot: what is seen, and later the write. */
proctype floor_loop(byte p) {
    byte s, seen, born;
end_wait:
    atomic {
        if
        :: TO_DO(0) -> s = 0
        :: TO_DO(1) -> s = 1
        fi;
        seen = state[AT(s)];
        born = life[p]
    }
    atomic {
        if
#ifdef BLIND
        :: HERE && seen == EMPTY ->
           assert(!worker[AT(s)]); /* of that one nobody would know any more */
#else
        :: HERE && seen == EMPTY && state[AT(s)] == EMPTY ->
#endif
           state[AT(s)] = STARTING;
           launcher[AT(s)] = p;
           launched_in[AT(s)] = born;
           worker[AT(s)] = true;
           assert(HELD <= FLOOR)
        :: HERE && seen != EMPTY && (ORPHANED(s) || LOST(s)) -> state[AT(s)] = ENDING
        :: HERE && seen == ENDING && state[AT(s)] == ENDING -> worker[AT(s)] = false; state[AT(s)] = EMPTY
        :: else
        fi;
        s = 0; seen = 0; born = 0;
        goto end_wait
    }
}

/* Launches end, well or not; workers are taken, and die. */
proctype workers(byte at) {
end_wait:
    do
    :: atomic {
           state[at] == STARTING && launched_in[at] == life[launcher[at]] ->
           if
           :: worker[at] -> state[at] = READY
           :: else -> state[at] = ENDING /* it did not become healthy */
           fi
       }
    :: atomic {
           state[at] == READY && worker[at] && taken > 0 ->
           taken--; worker[at] = false; state[at] = EMPTY /* a job's from now on */
       }
    :: atomic { worker[at] && deaths > 0 -> deaths--; worker[at] = false }
    od
}

proctype kills() {
end_wait:
    do
    :: d_step { crashes > 0 -> crashes--; life[0]++ }
    od
}

proctype nothing_left() {
end_wait:
    timeout -> assert(state[0] == READY && state[1] == READY && worker[0] && worker[1])
}

init {
    atomic {
        run workers(0); run workers(1);
#ifdef PER_PROCESS
        run workers(2); run workers(3);
#endif
        run kills(); run nothing_left();
        run floor_loop(0); run floor_loop(1)
    }
}
