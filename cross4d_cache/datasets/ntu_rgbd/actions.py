"""The action classes, in the dataset's numbering less one: the first 60 are those of NTU RGB+D 60, 50 to 60 and 106 to 120 take two."""

ACTION_NAMES = tuple(
    """
drink water
eat meal
brush teeth
brush hair
drop
pick up
throw
sit down
stand up
clap
read
write
tear up paper
put on jacket
take off jacket
put on a shoe
take off a shoe
put on glasses
take off glasses
put on a hat
take off a hat
cheer up
wave hand
kick something
reach into pocket
hop
jump up
phone call
play with phone
type on a keyboard
point to something
take a selfie
check time
rub two hands
nod head
shake head
wipe face
salute
put palms together
cross hands in front
sneeze or cough
stagger
fall down
headache
chest pain
back pain
neck pain
nausea
fan self
punch other person
kick other person
push other person
pat back of other person
point finger at other person
hug other person
give object to other person
touch pocket of other person
shake hands
walk towards each other
walk apart
put on headphone
take off headphone
shoot at basket
bounce ball
tennis bat swing
juggle table tennis balls
hush
flick hair
thumb up
thumb down
make OK sign
make victory sign
staple book
count money
cut nails
cut paper
snap fingers
open bottle
sniff
squat down
toss a coin
fold paper
ball up paper
play magic cube
apply cream on face
apply cream on hand
put on bag
take off bag
put object into bag
take object out of bag
open a box
move heavy objects
shake fist
throw up cap
hands up
cross arms
arm circles
arm swings
run on the spot
butt kicks
cross toe touch
side kick
yawn
stretch oneself
blow nose
hit other person with object
wield knife towards other person
knock over other person
grab object of other person
shoot at other person
step on foot
high-five
cheers and drink
carry object with other person
take a photo of other person
follow other person
whisper in ear of other person
exchange objects
support other person
rock-paper-scissors
""".strip().splitlines()
)
