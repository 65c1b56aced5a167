// Package hpa records what Kubernetes' HorizontalPodAutoscaler controller decides. It is a test
// because only a test has a clock (testing/synctest) on which hours pass at once; the controller is
// Kubernetes' own, as it runs in kube-controller-manager: its queue, its calculator, its history.
package hpa

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	v1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	autoscalingclient "k8s.io/client-go/kubernetes/typed/autoscaling/v2"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	autoscalinglisters "k8s.io/client-go/listers/autoscaling/v2"
	corelisters "k8s.io/client-go/listers/core/v1"
	scaleclient "k8s.io/client-go/scale"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	defaults "k8s.io/kubernetes/pkg/apis/autoscaling/v2"
	"k8s.io/kubernetes/pkg/controller/podautoscaler"
	metricsclient "k8s.io/kubernetes/pkg/controller/podautoscaler/metrics"
)

var (
	out = flag.String("out", "", "the file to write")
	of  = flag.String("of", "", "the module and its version, as the file names them")
)

const (
	namespace = "golden"
	steps     = 500
	warmup    = 5 * time.Minute // the controller's own settings, as kube-controller-manager sets them
	readiness = 30 * time.Second
)

// What a pod is where it has no sample that counts; its sample, in thousandths, otherwise.
const (
	missing = -1 - iota
	pending
	pendingWithSample
	failedWithSample
	leavingWithSample
)

// Policy and Rules are named as in the Python that is held against them.
type Policy struct {
	Percent bool  `json:"percent"`
	Value   int32 `json:"value"`
	Period  int32 `json:"period"`
}

type Rules struct {
	Window   int32    `json:"window"`
	Select   string   `json:"select"`
	Policies []Policy `json:"policies"`
}

type Settings struct {
	Minimum   int32   `json:"minimum"`
	Maximum   int32   `json:"maximum"`
	Target    int64   `json:"target"` // thousandths, for each pod
	Tolerance float64 `json:"tolerance"`
	Window    int     `json:"window"` // seconds of the controller's own downscale stabilization
	Up        *Rules  `json:"up"`     // both null: no spec.behavior
	Down      *Rules  `json:"down"`
}

// Series is one HorizontalPodAutoscaler's life, sync by sync.
type Series struct {
	Name     string   `json:"name"`
	External bool     `json:"external"` // one value for all, else a value for each pod
	Settings Settings `json:"settings"`
	Interval int      `json:"interval"` // seconds between two syncs
	Began    int64    `json:"began"`    // Unix seconds; the first sync is an interval later
	Pods     [][]int  `json:"pods,omitempty"`
	Values   []int    `json:"values,omitempty"` // of external metrics, thousandths; -1 where none came
	Statuses []int32  `json:"statuses"`         // replicas that exist
	Current  []int32  `json:"current"`          // replicas asked for before the sync
	Desired  []int32  `json:"desired"`          // and after it
}

// world is all that the controller sees and writes.
type world struct {
	pods   cache.Indexer
	scale  autoscalingv1.Scale
	sample metricsclient.PodMetricsInfo
	value  int
	syncs  int
}

var errNothing = errors.New("no metrics")

func (w *world) GetResourceMetric(context.Context, v1.ResourceName, string, labels.Selector, string) (metricsclient.PodMetricsInfo, time.Time, error) {
	return nil, time.Time{}, errNothing
}

func (w *world) GetRawMetric(string, string, labels.Selector, labels.Selector) (metricsclient.PodMetricsInfo, time.Time, error) {
	if w.sample == nil {
		return nil, time.Time{}, errNothing
	}
	return w.sample, time.Now(), nil
}

func (w *world) GetObjectMetric(string, string, *autoscalingv2.CrossVersionObjectReference, labels.Selector) (int64, time.Time, error) {
	return 0, time.Time{}, errNothing
}

func (w *world) GetExternalMetric(string, string, labels.Selector) ([]int64, time.Time, error) {
	if w.value < 0 {
		return nil, time.Time{}, errNothing
	}
	return []int64{int64(w.value)}, time.Now(), nil
}

func (w *world) Scales(string) scaleclient.ScaleInterface { return w }

func (w *world) Get(context.Context, schema.GroupResource, string, metav1.GetOptions) (*autoscalingv1.Scale, error) {
	w.syncs++
	return w.scale.DeepCopy(), nil
}

func (w *world) Update(_ context.Context, _ schema.GroupResource, scale *autoscalingv1.Scale, _ metav1.UpdateOptions) (*autoscalingv1.Scale, error) {
	w.scale.Spec.Replicas = scale.Spec.Replicas
	return w.scale.DeepCopy(), nil
}

func (w *world) Patch(context.Context, schema.GroupVersionResource, string, types.PatchType, []byte, metav1.PatchOptions) (*autoscalingv1.Scale, error) {
	return nil, errors.New("nobody patches a scale")
}

// informer holds what it was given, and tells of it once. The ones of client-go do not live on a
// test's clock: they wait on a channel that was made before it.
type informer struct {
	cache.SharedIndexInformer
	store cache.Indexer
}

func (i informer) HasSynced() bool { return true }

func (i informer) AddEventHandlerWithResyncPeriod(handler cache.ResourceEventHandler, _ time.Duration) (cache.ResourceEventHandlerRegistration, error) {
	for _, object := range i.store.List() {
		handler.OnAdd(object, true)
	}
	return nil, nil
}

type podInformer struct{ informer }

func (p podInformer) Informer() cache.SharedIndexInformer { return p.informer }
func (p podInformer) Lister() corelisters.PodLister       { return corelisters.NewPodLister(p.store) }

type hpaInformer struct{ informer }

func (h hpaInformer) Informer() cache.SharedIndexInformer { return h.informer }
func (h hpaInformer) Lister() autoscalinglisters.HorizontalPodAutoscalerLister {
	return autoscalinglisters.NewHorizontalPodAutoscalerLister(h.store)
}

// autoscalers and events take what the controller says of itself.
type autoscalers struct {
	autoscalingclient.HorizontalPodAutoscalerInterface
}

func (a autoscalers) HorizontalPodAutoscalers(string) autoscalingclient.HorizontalPodAutoscalerInterface {
	return a
}

func (a autoscalers) UpdateStatus(_ context.Context, hpa *autoscalingv2.HorizontalPodAutoscaler, _ metav1.UpdateOptions) (*autoscalingv2.HorizontalPodAutoscaler, error) {
	return hpa, nil
}

type events struct{ coreclient.EventInterface }

func (e events) Events(string) coreclient.EventInterface { return e }

func (e events) CreateWithEventNamespace(event *v1.Event) (*v1.Event, error) { return event, nil }

func (e events) UpdateWithEventNamespace(event *v1.Event) (*v1.Event, error) { return event, nil }

func (e events) PatchWithEventNamespace(event *v1.Event, _ []byte) (*v1.Event, error) {
	return event, nil
}

func indexer() cache.Indexer {
	return cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
}

func (w *world) set(pods []int) {
	var objects []any
	w.sample = metricsclient.PodMetricsInfo{}
	for number, sample := range pods {
		pod := &v1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprint("pod-", number), Labels: map[string]string{"app": "golden"}},
			Status:     v1.PodStatus{Phase: v1.PodRunning, Conditions: []v1.PodCondition{{Type: v1.PodReady, Status: v1.ConditionTrue}}},
		}
		if sample != missing && sample != pending {
			value := int64(max(0, sample))
			if sample < 0 {
				value = 900
			}
			w.sample[pod.Name] = metricsclient.PodMetric{Timestamp: time.Now(), Window: time.Minute, Value: value}
		}
		switch sample {
		case pending, pendingWithSample:
			pod.Status.Phase = v1.PodPending
		case failedWithSample:
			pod.Status.Phase = v1.PodFailed
		case leavingWithSample:
			pod.DeletionTimestamp = &metav1.Time{Time: time.Now()}
		}
		objects = append(objects, pod)
	}
	if err := w.pods.Replace(objects, ""); err != nil {
		panic(err)
	}
}

func rules(from *Rules) *autoscalingv2.HPAScalingRules {
	if from == nil {
		return nil
	}
	selected := autoscalingv2.ScalingPolicySelect(from.Select)
	made := &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &from.Window, SelectPolicy: &selected}
	for _, policy := range from.Policies {
		kind := autoscalingv2.PodsScalingPolicy
		if policy.Percent {
			kind = autoscalingv2.PercentScalingPolicy
		}
		made.Policies = append(made.Policies, autoscalingv2.HPAScalingPolicy{Type: kind, Value: policy.Value, PeriodSeconds: policy.Period})
	}
	return made
}

func autoscaler(series *Series) *autoscalingv2.HorizontalPodAutoscaler {
	settings := series.Settings
	target := autoscalingv2.MetricTarget{
		Type:         autoscalingv2.AverageValueMetricType,
		AverageValue: resource.NewMilliQuantity(settings.Target, resource.DecimalSI),
	}
	metric := autoscalingv2.MetricSpec{
		Type: autoscalingv2.PodsMetricSourceType,
		Pods: &autoscalingv2.PodsMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "busy"}, Target: target},
	}
	if series.External {
		metric = autoscalingv2.MetricSpec{
			Type:     autoscalingv2.ExternalMetricSourceType,
			External: &autoscalingv2.ExternalMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "pending"}, Target: target},
		}
	}
	hpa := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "golden"},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "golden"},
			MinReplicas:    &settings.Minimum,
			MaxReplicas:    settings.Maximum,
			Metrics:        []autoscalingv2.MetricSpec{metric},
		},
	}
	if settings.Up != nil || settings.Down != nil {
		hpa.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(settings.Up), ScaleDown: rules(settings.Down)}
	}
	defaults.SetDefaults_HorizontalPodAutoscaler(hpa)
	return hpa
}

// run lets the controller sync each interval, and changes what it sees halfway between two syncs.
func run(series *Series, life life, random *rand.Rand) {
	ctx, stop := context.WithCancel(context.Background())
	watched := hpaInformer{informer{store: indexer()}}
	if err := watched.store.Add(autoscaler(series)); err != nil {
		panic(err)
	}
	pods := podInformer{informer{store: indexer()}}
	world := &world{pods: pods.store, scale: autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "golden"},
		Spec:       autoscalingv1.ScaleSpec{Replicas: life.begin},
		Status:     autoscalingv1.ScaleStatus{Selector: "app=golden"},
	}}
	mapper := apimeta.NewDefaultRESTMapper([]schema.GroupVersion{{Group: "apps", Version: "v1"}})
	mapper.Add(schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, apimeta.RESTScopeNamespace)
	interval := time.Duration(series.Interval) * time.Second
	series.Began = time.Now().Unix()
	controller := podautoscaler.NewHorizontalController(ctx, events{}, world, autoscalers{}, mapper, world,
		watched, pods, interval, time.Duration(series.Settings.Window)*time.Second, series.Settings.Tolerance,
		warmup, readiness)
	go controller.Run(ctx, 1)
	time.Sleep(interval / 2)
	for step := range steps {
		if other, ok := life.outside[step]; ok {
			world.scale.Spec.Replicas = other
		}
		current := world.scale.Spec.Replicas
		seen, value := life.look(step, int(current), random)
		exist := int32(len(seen))
		if series.External {
			exist = max(0, current-int32(random.IntN(2)))
			series.Values = append(series.Values, value)
		} else {
			series.Pods = append(series.Pods, seen)
		}
		world.value = value
		world.set(seen)
		world.scale.Status.Replicas = exist
		series.Current = append(series.Current, current)
		series.Statuses = append(series.Statuses, exist)
		time.Sleep(interval)
		synctest.Wait()
		if world.syncs != step+1 {
			panic(fmt.Sprintf("%s: %d syncs after %d steps", series.Name, world.syncs, step+1))
		}
		series.Desired = append(series.Desired, world.scale.Spec.Replicas)
	}
	stop()
	time.Sleep(time.Hour) // what waits for its turn to end
}

// life says what there is to see at each sync.
type life struct {
	begin   int32
	outside map[int]int32 // somebody else sets the replicas
	look    func(step, replicas int, random *rand.Rand) (pods []int, value int)
}

// load is the sum over all replicas, in thousandths of what one can do.
type load func(step int, random *rand.Rand) float64

func walk(start, step float64) load {
	level := start
	return func(_ int, random *rand.Rand) float64 {
		level = math.Abs(level + random.NormFloat64()*step)
		return level
	}
}

func bursts(base, height float64) load {
	left := 0
	return func(_ int, random *rand.Rand) float64 {
		if left--; left < 0 && random.IntN(25) == 0 {
			left = 1 + random.IntN(12)
		}
		level := base * (0.8 + 0.4*random.Float64())
		if left > 0 {
			level += height * random.Float64()
		}
		return level
	}
}

func levels(of ...float64) load {
	return func(step int, random *rand.Rand) float64 {
		return of[step/45%len(of)] * (0.93 + 0.14*random.Float64())
	}
}

// spikes jump up and down, often twice within a minute.
func spikes(height float64) load {
	level := 0.0
	return func(_ int, random *rand.Rand) float64 {
		if random.IntN(3) == 0 {
			level = height * random.Float64()
		}
		return level
	}
}

// surplus adds pods that ought to be gone and are not.
func surplus(of func(int, int, *rand.Rand) ([]int, int)) func(int, int, *rand.Rand) ([]int, int) {
	return func(step, replicas int, random *rand.Rand) ([]int, int) {
		pods, value := of(step, replicas, random)
		for range random.IntN(5) {
			pods = append(pods, missing*random.IntN(2))
		}
		return pods, value
	}
}

// running spreads a load over pods of which the newest start, and some have odd faults.
func running(of load, faults float64) func(int, int, *rand.Rand) ([]int, int) {
	ready := 1
	return func(step, replicas int, random *rand.Rand) ([]int, int) {
		total := of(step, random)
		ready = min(replicas, ready+random.IntN(3))
		share := min(1000, total/float64(max(1, ready)))
		pods := make([]int, 0, replicas)
		for number := range replicas {
			sample := int(min(1000, share*(0.9+0.2*random.Float64()))) / 5 * 5
			switch {
			case number >= ready && random.IntN(4) == 0:
				sample = missing
			case number >= ready:
				sample = pending
			case random.Float64() < faults:
				sample = missing - random.IntN(5)
			}
			pods = append(pods, sample)
		}
		if random.IntN(50) == 0 {
			return nil, 0
		}
		return pods, 0
	}
}

func queue(of load, holes int) func(int, int, *rand.Rand) ([]int, int) {
	return func(step, _ int, random *rand.Rand) ([]int, int) {
		if random.IntN(holes) == 0 {
			return nil, -1
		}
		return nil, 1000 * int(of(step, random))
	}
}

func rule(window int32, selected string, policies ...Policy) *Rules {
	return &Rules{Window: window, Select: selected, Policies: policies}
}

func TestGolden(t *testing.T) {
	if *out == "" {
		t.Skip("no -out")
	}
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	utilruntime.ErrorHandlers = nil // they print, and wait by the time of day
	plain := func(target int64) Settings {
		return Settings{Minimum: 1, Maximum: 30, Target: target, Tolerance: 0.1, Window: 300}
	}
	with := func(up, down *Rules) Settings {
		settings := plain(500)
		settings.Up, settings.Down = up, down
		return settings
	}
	// What the API server makes of a spec.behavior that sets one direction only.
	up := rule(0, "Max", Policy{false, 4, 15}, Policy{true, 100, 15})
	down := rule(300, "Max", Policy{true, 100, 15})
	cases := []struct {
		name     string
		external bool
		interval int
		settings Settings
		life     life
	}{
		{"walk", false, 15, plain(500), life{3, nil, running(walk(2000, 150), 0)}},
		{"walk, target .7", false, 15, plain(700), life{4, nil, running(walk(3000, 250), 0.03)}},
		{"walk, target .85", false, 15, plain(850), life{4, nil, running(walk(4000, 300), 0.03)}},
		{"bursts", false, 15, plain(500), life{2, nil, running(bursts(1000, 6000), 0.05)}},
		{"levels", false, 15, plain(500), life{1, nil, running(levels(500, 6000, 0, 9000, 2000), 0.02)}},
		{"many faults", false, 15, plain(600), life{6, nil, running(walk(4000, 300), 0.3)}},
		{"every minute", false, 60, plain(500), life{3, nil, running(bursts(2000, 4000), 0.05)}},
		{"odd interval", false, 7, plain(500), life{3, nil, running(bursts(2000, 4000), 0.05)}},
		{"short stabilization", false, 15, func() Settings { s := plain(500); s.Window, s.Tolerance = 60, 0.02; return s }(),
			life{3, nil, running(walk(2500, 400), 0.05)}},
		{"outside writer", false, 15, func() Settings { s := plain(500); s.Minimum, s.Maximum = 3, 10; return s }(),
			life{5, map[int]int32{40: 25, 80: 1, 120: 0, 140: 6, 300: 14, 301: 2}, running(bursts(1500, 4000), 0.05)}},
		{"behaviour as by default", false, 15, with(up, down), life{3, nil, running(bursts(2000, 8000), 0.05)}},
		{"slow up and down", false, 15, with(rule(60, "Min", Policy{false, 2, 60}, Policy{true, 50, 45}),
			rule(120, "Min", Policy{false, 1, 60}, Policy{true, 10, 90})), life{4, nil, running(bursts(2000, 8000), 0.03)}},
		{"mixed periods", false, 15, with(rule(0, "Max", Policy{false, 3, 30}),
			rule(45, "Max", Policy{false, 2, 180}, Policy{true, 30, 120})), life{4, nil, running(walk(4000, 1200), 0.03)}},
		{"never down", false, 15, with(up, rule(0, "Disabled", Policy{true, 100, 15})), life{2, map[int]int32{250: 2}, running(bursts(800, 3000), 0.03)}},
		{"never up", false, 15, with(rule(0, "Disabled", Policy{true, 100, 15}), rule(30, "Max", Policy{false, 1, 15})),
			life{9, map[int]int32{150: 12, 300: 15}, running(walk(2500, 300), 0.03)}},
		{"more pods than asked for", false, 15, plain(500), life{6, nil, surplus(running(walk(3000, 300), 0.2))}},
		{"behaviour and outside writer", false, 15, with(rule(0, "Min", Policy{false, 3, 60}, Policy{true, 60, 30}), rule(60, "Min", Policy{true, 30, 60})),
			life{5, map[int]int32{40: 40, 80: 0, 82: 9, 120: 29, 121: 4, 122: 18, 200: 33, 203: 2, 350: 36}, running(bursts(2000, 6000), 0.03)}},
		{"behaviour and two writers", true, 15, with(rule(0, "Max", Policy{false, 2, 90}), rule(0, "Max", Policy{false, 2, 60})),
			life{5, map[int]int32{40: 40, 42: 3, 44: 12, 46: 1, 90: 20, 91: 19, 92: 2, 200: 35, 205: 8}, queue(bursts(1, 9), 40)}},
		{"long memory down", true, 15, with(rule(0, "Max", Policy{false, 3, 15}), rule(0, "Max", Policy{true, 20, 300})),
			life{3, nil, queue(spikes(12), 40)}},
		{"long memory up", true, 15, with(rule(0, "Max", Policy{true, 30, 300}), rule(0, "Max", Policy{false, 3, 15})),
			life{3, nil, queue(spikes(12), 40)}},
		{"queue", true, 15, plain(4000), life{3, nil, queue(walk(20, 5), 40)}},
		{"queue in bursts", true, 15, plain(4000), life{1, nil, queue(bursts(0, 150), 40)}},
		{"queue in levels", true, 15, plain(2000), life{1, nil, queue(levels(0, 20, 60, 0, 5), 15)}},
		{"queue with behaviour", true, 15, with(rule(30, "Max", Policy{true, 50, 30}), rule(60, "Max", Policy{false, 1, 30})),
			life{2, nil, queue(bursts(1, 30), 40)}},
		{"queue and outside writer", true, 10, func() Settings { s := plain(3000); s.Minimum, s.Maximum = 2, 12; return s }(),
			life{5, map[int]int32{40: 25, 80: 1, 120: 0, 140: 6}, queue(bursts(5, 50), 40)}},
	}
	var all []*Series
	decisions := 0
	for number, entry := range cases {
		random := rand.New(rand.NewPCG(7, uint64(number)))
		series := &Series{Name: entry.name, External: entry.external, Settings: entry.settings, Interval: entry.interval}
		synctest.Test(t, func(*testing.T) { run(series, entry.life, random) })
		all = append(all, series)
		decisions += len(series.Desired)
	}
	text, err := json.Marshal(map[string]any{"of": *of, "series": all})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(*out, text, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d series, %d decisions", len(all), decisions)
}
