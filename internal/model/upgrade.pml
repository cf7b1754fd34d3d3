/*
 * Both directions: two receives, a send, an Upgrade, which has a timeout, and
 * Close. 0 is the direction of receives, 1 that of sends.
 */

#define DIRECTIONS 2
#define CALLS      4
#define UPGRADE    3
#define LAST       CALLS /* there is none */

#define canceled(c) false
#define timeUp(c) (c == UPGRADE && late)

bool late;      /* the time of the Upgrade is up */
bool silent[2]; /* nothing more comes, or there is no more room */
bool wrapping;  /* the function given to Upgrade is at work */
bool endless;   /* and does not return */
bool closing;

#include "turn.pml"

inline overtake(d) { skip }
inline joins(d, c) { skip }
inline end(c) { got = ENDED; at[c] = DONE }
inline forgetPatience() { skip }
inline patience(c) {
	if
	:: timeUp(c) -> got = TIMEUP
	:: else
	fi
}

hidden byte nobody_waits_while_the_turn_is_free;
hidden byte after_close_every_call_ends;
hidden byte who_waits_holds_up_nobody;
hidden byte the_upgrade_ends_in_time;
hidden byte close_setters_and_getters_do_not_wait;

/* Of receives the first is given WithFlush: see flushFirst of transfer.go. */
proctype Call(byte d; byte c) {
	byte got, w;
	bool next;
	enter(d, c);
	if
	:: got == TURN && c == 0 ->
		tryEnter(1, c);
		if
		:: got == TURN -> atomic { !silent[1] || state[1] == CLOSED -> leave(1) }
		:: got == NOTHING
		fi
	:: got == TURN && c != 0
	:: got == ENDED
	fi;
	if
	:: atomic { got != ENDED && (!silent[d] || state[d] == CLOSED) -> leave(d); end(c) }
	:: got == ENDED
	fi
}

proctype Upgrade() {
	byte got, w, a, b = 1;
	bool next;
	do
	:: enter(a, UPGRADE);
		if
		:: got == ENDED -> break
		:: got == TURN -> tryEnter(b, UPGRADE)
		fi;
		if
		:: atomic { got == TURN -> wrapping = true; break }
		:: atomic { got == NOTHING -> leave(a); a = 1 - a; b = 1 - b }
		fi
	od;
	if
	:: atomic { got == TURN && !endless -> wrapping = false; leave(1) }
		atomic { leave(0); end(UPGRADE) }
	:: got == ENDED
	fi
}

proctype Clock() { late = true }

proctype Peer() {
	do
	:: !silent[0] -> silent[0] = true
	:: !silent[1] -> silent[1] = true
	od
}

proctype Close() {
	byte w;
	bool news;
	atomic { closing = true; shut(0, CLOSED, news) }
	atomic { shut(1, CLOSED, news); closing = false }
}

#define isAtWork(c) (at[c] == INSIDE || wrapping)
#define hasEnded(c) (at[c] == DONE)

/* What must be true when nothing moves any more. */
proctype Rest() {
	timeout;
	atomic {
		MUST(nobody_waits_while_the_turn_is_free,
			(holders[0] == 1 || at[0] != WAITS && at[1] != WAITS) &&
			(holders[1] == 1 || at[2] != WAITS) &&
			(holders[0] == 1 || holders[1] == 1 || at[UPGRADE] != WAITS));
		MUST(who_waits_holds_up_nobody,
			(empty(queue[0]) || isAtWork(0) || isAtWork(1)) &&
			(empty(queue[1]) || isAtWork(0) || isAtWork(2)));
		MUST(after_close_every_call_ends,
			state[0] != CLOSED || hasEnded(0) && hasEnded(1) && hasEnded(2) &&
			(hasEnded(UPGRADE) || wrapping && endless));
		MUST(the_upgrade_ends_in_time, hasEnded(UPGRADE) || wrapping && endless);
		MUST(close_setters_and_getters_do_not_wait, !closing && !mu[0] && !mu[1])
	}
}

init {
	atomic {
		run Call(0, 0);
		run Call(0, 1);
		run Call(1, 2);
		run Upgrade();
		run Clock();
		run Peer();
		if
		:: endless = true
		:: skip
		fi;
		if
		:: run Close()
		:: skip
		fi;
		run Rest()
	}
}
