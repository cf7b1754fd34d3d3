/*
 * One direction: goroutines that make one call after the other, and none that
 * waits long in its turn.
 */

#define DIRECTIONS 1
#define CALLS      4 /* at a time: one of each goroutine */
#define LAST       CALLS /* there is none */

#define canceled(c) false
#define timeUp(c) false

#include "turn.pml"

inline joins(d, c) { late[c] = 0; ahead[c] = len(queue[d]) }
inline end(c) { at[c] = DONE; got = NOTHING; late[c] = 0; ahead[c] = 0 }
inline forgetPatience() { skip }
inline patience(c) { skip }

byte ahead[CALLS]; /* how many were in the queue when the call joined it */
byte late[CALLS];  /* how many have taken the turn since that came later */
hidden byte a_waiter_is_overtaken_so_often_at_most;
hidden byte nobody_waits_while_the_turn_is_free;

/* A call takes the turn without having waited. */
inline overtake(d) {
	for (w : 0 .. CALLS - 1) {
		if
		:: queue[d] ?? [eval(w)] ->
			late[w]++;
			MUST(a_waiter_is_overtaken_so_often_at_most, late[w] <= MAX_OVERTAKEN * (1 + ahead[w]))
		:: else
		fi
	}
	w = 0
}

proctype Caller(byte c) {
	byte got, w, n;
	bool next;
	do
	:: n < ROUNDS ->
		n++;
		enter(0, c);
		atomic { leave(0); end(c) }
	:: n == ROUNDS -> break
	od
}

proctype Rest() {
	timeout;
	MUST(nobody_waits_while_the_turn_is_free, empty(queue[0]))
}

init {
	atomic {
		run Caller(0);
		run Caller(1);
		run Caller(2);
		run Caller(3);
		run Rest()
	}
}
