package edgesim

import (
	"container/heap"
	"time"
)

// agenda holds what a core has to do later. It belongs to one goroutine.
type agenda []*task

// task is one entry of an agenda.
type task struct {
	at    time.Time
	do    func()
	index int // in the heap, -1 once removed
}

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].at.Before(a[j].at) }
func (a agenda) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].index, a[j].index = i, j
}

// Push is for package heap.
func (a *agenda) Push(x any) {
	t := x.(*task)
	t.index = len(*a)
	*a = append(*a, t)
}

// Pop is for package heap.
func (a *agenda) Pop() any {
	old := *a
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*a = old[:len(old)-1]
	t.index = -1
	return t
}

func (a *agenda) add(at time.Time, do func()) *task {
	t := &task{at: at, do: do}
	heap.Push(a, t)
	return t
}

func (a *agenda) cancel(t *task) {
	if t != nil && t.index >= 0 {
		heap.Remove(a, t.index)
	}
}

// next returns the time of the earliest entry.
func (a agenda) next() (time.Time, bool) {
	if len(a) == 0 {
		return time.Time{}, false
	}
	return a[0].at, true
}

// due removes and returns the earliest entry if its time has come.
func (a *agenda) due(now time.Time) *task {
	if len(*a) == 0 || (*a)[0].at.After(now) {
		return nil
	}
	return heap.Pop(a).(*task)
}
