"""Sentence templates of job descriptions and bid texts. Data only; `texts.py` puts them together.

Places: {deliverable}, {industry}, {skill}, {other}, {task}, {method}, {name}, {days}, {count}.
"""

from __future__ import annotations

TITLES = (
    "{Deliverable} for {industry}",
    "{Skill} for {deliverable} ({industry})",
    "Help with {deliverable}: {skill}, {other}",
    "{Industry} needs a {deliverable}",
    "Looking for {skill} expert, {deliverable}",
)

JOB_OPENINGS = (
    "We are {industry} and need a new {deliverable}.",
    "Our company, {industry}, plans a {deliverable} for the coming season.",
    "{Industry} is looking for help with the {deliverable}.",
    "For {industry} we want to make a better {deliverable}.",
    "This is about a {deliverable}; the client is {industry}.",
    "After years of postponing it, {industry} finally wants a {deliverable}.",
)

JOB_NEEDS = (
    "Part of the work is {task}.",
    "It includes {task}, so experience with {skill} is needed.",
    "We expect {task}.",
    "Most important is {task} ({skill}).",
    "You will be responsible for {task}.",
    "Our users have asked for {task}.",
    "There has to be {task}; {skill} would be the natural choice.",
)

JOB_CONTEXT = (
    "The team has {count} people and works remotely.",
    "An earlier version exists and may be thrown away.",
    "We prefer one person for the whole work.",
    "Communication is by chat, with a short call each week.",
    "Please be able to start within {days} days.",
    "The material will be handed over in English.",
    "There is a style guide that has to be followed.",
    "A follow-up job is likely if this goes well.",
)

VAGUE_CLIENT = (
    "We are just collecting quotes for now and have not decided whether to do it at all.",
    "Details will be discussed later, the scope is still open.",
    "Please send your cheapest price, we are comparing many offers.",
    "Maybe we will start this year, maybe not.",
    "We do not have a specification yet, surprise us with ideas.",
    "Not sure about the budget, our boss has to agree first.",
)

SERIOUS_CLIENT = (
    "The specification is finished and attached, the budget is approved.",
    "We will decide by Friday and start next Monday.",
    "Payment by milestones, each accepted within two days.",
    "We have hired here many times and answer questions the same day.",
    "Acceptance criteria are listed in the attached document.",
    "A project manager with decision rights is your contact.",
)

GREETINGS = ("Hello,", "Hi there,", "Dear client,", "Good morning,", "Dear hiring manager,", "Hey,", "Dear Sir or Madam,")

SPECIFIC = (
    "For {task} I would {method}.",
    "You mention {task}: I would {method}.",
    "On {task}, my proposal is to {method}.",
    "With {skill} I would {method}, which gives you {task}.",
    "To get {task} right, one has to {method}; I have done so for {industry}.",
    "My first milestone would be {task}, where I {method}.",
    "About {task}: in my last project for {industry} I learnt to {method}.",
)

GENERIC = (
    "I am a hard working professional with many years of experience.",
    "I read your post and I am very interested in this job.",
    "I can start immediately and I am available full time.",
    "Quality work and satisfied clients are my priority.",
    "I always deliver on time and within budget.",
    "I am the perfect candidate for your project.",
    "Please check my profile for my previous work.",
    "I offer unlimited revisions until you are happy.",
    "My rates are flexible and we can negotiate.",
    "I have excellent communication skills.",
    "I have completed {count} projects on this platform.",
    "Kindly message me so that we can discuss further.",
    "I am confident that I can do this job perfectly.",
    "You will not regret working with me.",
    "I can finish everything in {days} days.",
    "I give one hundred percent to every client.",
)

GOOD_FIT = (
    "{Skill} and {other} are what I work with every day.",
    "I have done exactly this kind of work before, with {skill} and {other}.",
    "My last {count} jobs were all about {skill}, so I know its pitfalls.",
    "I have built a very similar {deliverable} for {industry}, also with {skill}.",
)

POOR_FIT = (
    "I have not used {skill} yet, but I learn quickly.",
    "My background is a different one, still I would like to try {skill}.",
    "I am new to {skill} and would pick it up on the way.",
    "{Skill} is outside of my usual work, but I am curious about it.",
)

QUESTIONS = (
    "One question: who will look after the {deliverable} once it is finished?",
    "Do you already have material for the {deliverable}, or shall I prepare it?",
    "Is {skill} a must, or may I suggest something simpler?",
    "Which part of the {deliverable} matters most to you if time gets short?",
    "How do you measure today whether the {deliverable} works for your customers?",
)

CLOSINGS = (
    "Best regards, {name}",
    "Thank you, {name}",
    "Looking forward to your reply. {name}",
    "Kind regards, {name}",
    "Let us talk this week. {name}",
    "{name}",
    "Waiting for your message!",
    "Sincerely, {name}",
)
