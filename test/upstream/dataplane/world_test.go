package dataplane

import (
	"reflect"
	"testing"
)

func TestCasesShowEveryFeature(t *testing.T) {
	var tally Tally
	for seed := range uint64(300) {
		tally.Add(Draw(seed, Normal()).World())
	}
	tally.Check(t, 20)
}

func TestASeedIsACase(t *testing.T) {
	for seed := range uint64(20) {
		if a, b := Draw(seed, Normal()), Draw(seed, Normal()); !reflect.DeepEqual(a, b) {
			t.Fatalf("seed %d stands for two cases", seed)
		}
	}
}
