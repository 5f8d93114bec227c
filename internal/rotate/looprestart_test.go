package rotate

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestALoopThatBeginsAnewLooksAtEverythingAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSteps{key: slow}
		l := fakeLoop(f, 4)
		l.SetVaults(weu)
		l.SetPolicies(keys(3))
		every := map[string]int{testVault: 1, "key-0000": 1, "key-0001": 1, "key-0002": 1}
		for range 2 {
			looked := make(chan struct{})
			l.WhenLooked(func() { close(looked) })
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() { l.Run(ctx); close(ended) }()
			<-looked
			time.Sleep(10 * time.Second) // each step takes one
			stop()
			<-ended
			wantCounts(t, f, every)
			f.forgetCalls()
			l.Restart()
			if l.Looked() || l.Position("key-0000").Looked {
				t.Error("the loop has looked already")
			}
		}
	})
}
