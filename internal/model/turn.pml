/*
 * The turn of a direction: turn.go. Each of the models includes it.
 *
 * d is a direction, c the number of a call. What a lock guards is done in one
 * atomic step, which takes the lock and gives it back. A call has the local
 * variables got, bound, next and w.
 */

#define OPEN    0
#define CLOSING 1
#define CLOSED  2

/* got: what a call has got so far */
#define NOTHING 0 /* it waits */
#define TURN    1
#define CLOSE   2 /* errClosed */
#define TIMEUP  3 /* errTimeUp */
#define DATA    4 /* what it wanted */
#define ENDED   5 /* it has returned */

/* at: where a call is */
#define BEFORE  0
#define WAITS   1 /* in await */
#define INSIDE  2 /* it has the turn */
#define DONE    3

#ifndef MAX_OVERTAKEN
#define MAX_OVERTAKEN 2 /* 16 in turn.go: see README.md */
#endif

bool mu[DIRECTIONS];
bool busy[DIRECTIONS];
byte state[DIRECTIONS];
chan queue[DIRECTIONS] = [CALLS] of { byte };

/* of a waiter, which is that of its call */
bool wake[CALLS];
bool granted[CALLS];
byte overtaken[CALLS];

/* for the properties alone */
byte at[CALLS];
byte holders[DIRECTIONS];
hidden byte at_most_one_call_has_the_turn;

#define MUST(name, condition) name = (condition); assert(name)

inline lock(m) { !m -> m = true }
inline unlock(m) { m = false }

#define admits(d, c) (state[d] == OPEN || state[d] == CLOSING && c == LAST)
#define isNext(d, c) (!busy[d] && queue[d] ? [eval(c)])

inline haveTurn(d, c) {
	got = TURN;
	at[c] = INSIDE;
	holders[d]++;
	MUST(at_most_one_call_has_the_turn, holders[d] == 1)
}

#ifndef ALARM_ALONE
inline enter(d, c) {
	atomic {
		lock(mu[d]);
		if
		:: !admits(d, c) -> end(c)
		:: admits(d, c) && !busy[d] -> busy[d] = true; overtake(d); haveTurn(d, c)
		:: else -> push(d, c); patience(c)
		fi;
		unlock(mu[d])
	}
	await(d, c)
}
#else
inline enter(d, c) {
	atomic {
		if
		:: !admits(d, c) || canceled(c) || user <= now -> end(c)
		:: admits(d, c) && !busy[d] -> busy[d] = true; haveTurn(d, c)
		fi
	}
}
#endif

inline tryEnter(d, c) {
	atomic {
		lock(mu[d]);
		got = NOTHING;
		if
		:: !busy[d] && admits(d, c) -> busy[d] = true; overtake(d); haveTurn(d, c)
		:: else
		fi;
		unlock(mu[d])
	}
}

/* patience is one step with the look before it, because a token makes it be
 * asked again; and so are a token and the look behind it. */
inline await(d, c) {
	do
	:: atomic {
			got == NOTHING && (wake[c] || timeUp(c) || canceled(c)) ->
			wake[c] = false; /* whatever it was */
			claim(d, c);
			if
			:: got == NOTHING && canceled(c) -> got = TIMEUP; forgetPatience()
			:: got == NOTHING && !canceled(c) -> patience(c)
			:: got != NOTHING -> forgetPatience()
			fi
		}
	:: atomic { got == CLOSE || got == TIMEUP -> giveUp(d, c); end(c) }
	:: got == TURN || got == ENDED -> break
	od
}

inline claim(d, c) {
	lock(mu[d]);
	if
	:: !admits(d, c) -> got = CLOSE
	:: admits(d, c) && granted[c] -> leaveQueue(c); haveTurn(d, c)
	:: admits(d, c) && isNext(d, c) ->
		remove(d, c); leaveQueue(c); busy[d] = true; haveTurn(d, c)
	:: else
	fi;
	unlock(mu[d])
}

inline giveUp(d, c) {
	lock(mu[d]);
	next = granted[c] || isNext(d, c);
	if
	:: !granted[c] -> remove(d, c)
	:: else
	fi;
	if
	:: next -> next = false; pass(d)
	:: else
	fi;
	leaveQueue(c);
	unlock(mu[d])
}

inline pass(d) {
	busy[d] = false;
	if
	:: empty(queue[d])
	:: nempty(queue[d]) ->
		queue[d] ? <w>;
		overtaken[w]++;
		if
		:: overtaken[w] > MAX_OVERTAKEN -> remove(d, w); granted[w] = true; busy[d] = true
		:: else
		fi;
		wake[w] = true;
		w = 0
	fi
}

inline leave(d) {
	lock(mu[d]);
	holders[d]--;
	pass(d);
	unlock(mu[d])
}

inline shut(d, to, news) {
	atomic {
		lock(mu[d]);
		news = state[d] < to;
		if
		:: news -> state[d] = to; notifyAll(d)
		:: else
		fi;
		unlock(mu[d])
	}
}

inline notifyAll(d) {
	for (w : 0 .. CALLS - 1) {
		if
		:: queue[d] ?? [eval(w)] -> wake[w] = true
		:: else
		fi
	}
	w = 0
}

inline push(d, c) { got = NOTHING; at[c] = WAITS; joins(d, c); queue[d] ! c }
inline remove(d, c) { queue[d] ?? eval(c) }

/* What is left of a waiter is nobody's. */
inline leaveQueue(c) { wake[c] = false; granted[c] = false; overtaken[c] = 0 }
