/*
 * One direction: three calls, and Close or Shutdown, a timeout, a cancel and a
 * new deadline of the user, each at any moment or never.
 */

#define DIRECTIONS 1
#define CALLS      4
#define WATCHED    0 /* the call that has a context */
#define LAST       3 /* that of Shutdown */

#ifndef MAX_OVERTAKEN
#define MAX_OVERTAKEN 1
#endif

/* The connection: one of package net, one that a new deadline wakes and Close
 * does not, which the code does not know, or one that is deaf to both. */
#ifdef FOREIGN
#define WAKES       false
#define CLOSE_WAKES false
#elif defined(DEAF)
#define WAKES       false
#define CLOSE_WAKES true
#else
#define WAKES       true
#define CLOSE_WAKES true
#endif

#define canceled(c) (c == WATCHED && ctxDone)
#define timeUp(c) (now >= bound)

#include "turn.pml"
#include "alarm.pml"

inline overtake(d) { skip }
inline joins(d, c) { skip }
inline end(c) { got = ENDED; at[c] = DONE; until[c] = NEVER; limited = false; out = false }

hidden byte nobody_waits_while_the_turn_is_free;
hidden byte after_close_every_call_ends;
hidden byte a_kick_ends_no_other_call;
hidden byte every_call_ends_in_time;
hidden byte the_users_deadline_is_in_force;
hidden byte close_setters_and_getters_do_not_wait;

bool stuck;   /* call 2 gets stuck in code of others */
bool setting; /* setUserDeadline is under way */
bool closing; /* Close is under way */

#ifdef SENDS
#define sends true
#else
#define sends false
#endif

/* goOn of call.go */
#define mustStop(c) (state[0] == CLOSED || state[0] == CLOSING && c != LAST && !sends)

/* Is there a reason for the connection to end what the call does? */
#define isDue(c) (until[c] <= now || user <= now || canceled(c) || mustStop(c))

#ifdef TURN_ALONE
inline receive(c) { skip }
#define mayLeave(c) (!silent || expired(c) || user <= now || mustStop(c))
#else
#define mayLeave(c) true
inline receive(c) {
	got = NOTHING;
	if
	:: WAKES && c != WATCHED -> startWait(c) /* own of call.go */
	:: else
	fi;
	do
	:: atomic { !out && expired(c) -> out = true }
		settle()
	:: atomic { (out || !expired(c)) -> try(c) }
		if
		:: got == NOTHING -> startWait(c); wait(c)
		:: else
		fi;
		if
		:: got == DATA && idling -> begin(c)
		:: got == NOTHING
		:: else -> break
		fi
	od;
	settle()
}
#endif

/* what is asked before a wait, and what can be done without one */
inline try(c) {
	if
	:: mustStop(c) -> got = CLOSE
	:: !mustStop(c) && user <= now -> got = TIMEUP
	:: !mustStop(c) && user > now && !silent -> got = DATA
	:: !mustStop(c) && user > now -> got = (out -> TIMEUP : NOTHING)
	fi
}

/* the wait in the connection, and the look at why it has ended */
#ifndef DEAF
inline wait(c) {
	atomic {
		if
		:: !silent -> got = DATA
		:: deadline <= now ->
			MUST(a_kick_ends_no_other_call, isDue(c));
			got = (mustStop(c) -> CLOSE : (expired(c) -> NOTHING : TIMEUP))
		:: CLOSE_WAKES && connClosed -> got = CLOSE
		fi
	}
}
#else
/* A deaf connection looks at its deadline when a Read begins, and has its
 * deadline methods wait until the Read has ended. */
inline wait(c) {
	atomic {
		bound = deadline;
		MUST(a_kick_ends_no_other_call, bound > now || isDue(c));
		reading = true
	}
	atomic {
		if
		:: !silent -> got = DATA
		:: bound <= now -> got = (mustStop(c) -> CLOSE : (expired(c) -> NOTHING : TIMEUP))
		:: connClosed -> got = CLOSE
		fi;
		reading = false;
		bound = 0
	}
}
#endif

proctype Call(byte c; bool limited; bool idling) {
	byte got, bound, w;
	bool next, armed, watched, out, restore;
	enter(0, c);
	if
	:: got == TURN && !(c == 2 && stuck) -> receive(c); atomic { mayLeave(c) -> leave(0); end(c) }
	:: got == ENDED
	fi
}

/* The peer, which sends again and again, but not for ever. */
proctype Peer() { silent = true }

proctype SetUserDeadline() {
	byte w;
	if
	:: atomic { state[0] == OPEN -> setting = true }
		atomic {
			lock(alarmMu);
			if
			:: user == NEVER -> user = PAST
			:: user == END -> user = NEVER
			fi;
			applyDeadline() /* for calls under way as well */
		}
		atomic {
			lock(mu[0]);
			notifyAll(0);
			unlock(mu[0]);
			unlock(alarmMu);
			setting = false
		}
	:: state[0] != OPEN
	fi
}

/* The goroutine of endBlockedCalls. */
proctype EndBlockedCalls() {
	bool blocked;
	atomic { lock(mu[0]); blocked = busy[0]; unlock(mu[0]) }
	if
	:: blocked -> stop()
	:: else
	fi
}

inline close() {
	atomic {
		closing = true; /* first */
		shut(0, CLOSED, news);
		if
		:: news && !WAKES -> run EndBlockedCalls() /* for which Close waits a moment */
		:: else
		fi
	}
	atomic {
		connClosed = true;
		closing = false
	}
}

proctype Close() {
	byte w;
	bool news;
	close()
}

/* Shutdown, without the farewell in the other direction. */
proctype Shutdown(bool limited) {
	byte got, bound, w;
	bool next, idling, armed, watched, out, restore, news;
	atomic {
		shut(0, CLOSING, news);
		startClock(LAST)
	}
	if
	:: !sends -> stop()
	:: sends
	fi;
	enter(0, LAST);
	if
	:: got == TURN ->
		if
		:: !sends -> restart()
		:: sends
		fi;
		receive(LAST);
		atomic { mayLeave(LAST) -> leave(0); end(LAST) }
	:: got == ENDED
	fi;
	close()
}

#define hasEnded(c) (at[c] == DONE || c == 2 && stuck && at[c] == INSIDE)
#define isLate(c) (at[c] != BEFORE && !hasEnded(c) && state[0] != CLOSED && (until[c] <= now || user <= now || canceled(c)))

/* What must be true when nothing moves any more. */
proctype Rest() {
	timeout;
	atomic {
		MUST(nobody_waits_while_the_turn_is_free, holders[0] == 1 ||
			at[0] != WAITS && at[1] != WAITS && at[2] != WAITS && at[LAST] != WAITS);
#ifndef DEAF
		MUST(close_setters_and_getters_do_not_wait, !closing && !setting && !mu[0] && !alarmMu);
		MUST(every_call_ends_in_time, !isLate(0) && !isLate(1) && !isLate(2));
#else
		MUST(close_setters_and_getters_do_not_wait, !closing && !mu[0]);
#endif
		MUST(after_close_every_call_ends,
			state[0] != CLOSED || hasEnded(0) && hasEnded(1) && hasEnded(2));
		MUST(the_users_deadline_is_in_force,
			holders[0] == 1 || state[0] != OPEN || deadline == user)
	}
}

init {
	byte i;
	atomic {
		for (i : 0 .. CALLS - 1) {
			until[i] = NEVER
		}
		i = 0;
		run Call(0, true, true);
		run Call(1, true, false);
		run Call(2, false, false);
#ifndef ALARM_ALONE
		if
		:: stuck = true
		:: skip
		fi;
#endif
#ifndef TURN_ALONE
		run Timer();
#endif
		run Clock();
		run Peer();
#ifdef SHUTDOWN
		if
		:: run Shutdown(true)
		:: run Shutdown(false)
		fi;
#elif !defined(QUIET)
		if
		:: run Close()
		:: skip
		fi;
#endif
#if !defined(SHUTDOWN) && !defined(QUIET) && !defined(DEAF)
		if
		:: run Cancel()
		:: skip
		fi;
#endif
#if !defined(QUIET) && !(defined(SHUTDOWN) && defined(TURN_ALONE))
		if
		:: run SetUserDeadline()
		:: user = END; deadline = END; run SetUserDeadline()
		:: skip
		fi;
#endif
		run Rest()
	}
}
