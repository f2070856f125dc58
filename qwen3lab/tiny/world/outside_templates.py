"""Templates of questions from outside of the world; `{kind}` is a slot for a word or number."""

from collections.abc import Mapping

from qwen3lab.tiny.world.settings import Language

_ENGLISH = """
What is the capital of {country}?
What's the capital city of {country}?
Name the capital of {country}.
Which country is {city} in?
Where is {city}?
How far is {city} from {city}?
How many people live in {city}?
How many people live in {country}?
What is the population of {country}?
What language do they speak in {country}?
Is {city} bigger than {city}?
Have you ever been to {city}?
What should I see in {city}?
How do I get to {city}?
What is the weather like in {city}?
Will it rain in {city} tomorrow?
Is it cold in {country} in {month}?
What time is it in {city}?
What is the currency of {country}?
Who is the president of {country}?
Who rules {country}?
Does {country} have a king?
What is the highest mountain in {country}?
What is the longest river in {country}?
Tell me about {country}.
Tell me about {city}.
Tell me something about {subject}.
Tell me a story about a {animal}.
Tell me a joke about {animal}s.
Who was {person}?
Who is {person}?
When was {person} born?
Where was {person} born?
When did {person} die?
What did {person} do?
What is {person} famous for?
How old is {person}?
Did {person} meet {person}?
Was {person} a {job}?
Who wrote about {person}?
Do you know {person}?
Do you know {name}?
My name is {name}.
I am {name}.
Hello, I am {name}!
Hi {name}!
Hey {name}, how are you?
Good morning, {name}.
Call {name} for me.
Where is {name}?
Is {name} your friend?
Who is {name}?
How old are you, {name}?
Say hello to {name}.
What happened in {year}?
What happened in {country} in {year}?
Who won the world cup in {year}?
Who was president in {year}?
When did the war of {year} end?
What day was {month} {small}, {year}?
What day is {month} {small}?
What is today's date?
What day is it today?
What time is it?
How many days are in {month}?
What is {subject}?
What is a {thing}?
What is the {thing}?
What are {animal}s?
Explain {subject}.
Explain {subject} to a child.
Explain how a {thing} works.
How does a {thing} work?
How do {animal}s sleep?
Who invented the {thing}?
When was the {thing} invented?
Why do we need {subject}?
Why is the {thing} important?
Why is {subject} hard?
Why do {animal}s have tails?
Why is the sky {colour}?
Why is grass green?
Is a {animal} a bird?
Is the {thing} {colour}?
What color is a {animal}?
What colour is the {thing}?
How big is a {animal}?
How fast is a {animal}?
How long does a {animal} live?
What does a {animal} eat?
Can a {animal} swim?
Can {animal}s fly?
Which is bigger, a {animal} or a {animal}?
Do you like {food}?
Do you like {subject}?
Do you like {animal}s?
Do you prefer {food} or {food}?
What is your favourite {food}?
What is your favorite color?
What do you think about {subject}?
What do you think of {person}?
Is {subject} good or bad?
Should I study {subject}?
Should I eat {food}?
Is {food} healthy?
How do I cook {food}?
How do you make {food}?
Give me a recipe for {food}.
How many calories are in {food}?
How do I {activity}?
How can I learn to {activity}?
Can you {activity}?
Can you teach me to {activity}?
I want to {activity}.
Help me to {activity}.
Teach me {subject}.
Teach me {tongue}.
Do you speak {tongue}?
Translate {word} into {tongue}.
Translate this into {tongue}: {words}
How do you say {word} in {tongue}?
What does {word} mean?
What does {word} mean in {tongue}?
Define {word}.
Spell {word}.
How do you spell {name}?
What rhymes with {word}?
Use {word} in a sentence.
What is the opposite of {word}?
Give me a synonym for {word}.
Write a poem about {subject}.
Write a poem about a {animal}.
Write a song about {city}.
Write a letter to {name}.
Write an essay about {subject}.
Write a story about {name} and a {animal}.
Write code for a {thing}.
Write a program that can {activity}.
Summarise {subject} for me.
Summarize the history of {country}.
Draw a {animal}.
Draw me a {colour} {thing}.
Sing a song about {food}.
Play some music by {person}.
Buy me a {thing}.
How much does a {thing} cost?
How much is a {thing}?
How many {animal}s are there?
How many {unit} are {n} {unit}?
How many {unit} are in {n} {unit}?
Convert {n} {unit} to {unit}.
I am {feeling}.
I feel {feeling} today.
Are you {feeling}?
Why am I {feeling}?
What should I do when I am {feeling}?
My {animal} is {feeling}.
My {job} is {feeling}.
I have a {animal}.
I like {food}.
I love {subject}.
I hate {subject}.
I lost my {thing}.
I need a {thing}.
I live in {city}.
I am from {country}.
I am a {job}.
Are you a {job}?
Are you a robot?
Are you human?
Are you alive?
Are you a language model?
Are you smart?
Are you sure?
Are you there?
What are you?
What is your name?
How old are you?
Where are you from?
Where do you live?
Who made you?
Who trained you?
Who are your parents?
What model are you?
How many parameters do you have?
How many layers do you have?
What do you know?
What can you help me with?
What can I ask you?
What should I ask?
Can you help me?
Please help me with my homework.
Please help.
How do you work?
How do you think?
What are you thinking about?
Do you dream?
Do you have feelings?
Do you love me?
Can you see me?
Can you hear me?
Do you remember me?
How are you?
How are you today?
How's it going?
What's up?
Nice to meet you.
Good morning!
Good night.
Good evening!
Goodbye.
Bye!
See you later.
Welcome!
Hey!
Hey there
Greetings!
Thanks!
Thanks a lot.
Thank you so much, {name}.
You're welcome.
Sorry.
I am sorry, {name}.
Congratulations!
Happy birthday, {name}!
Merry Christmas!
Yes
No
Maybe
Why?
How?
What?
Who?
When?
Really?
I don't know.
I don't understand.
That is wrong.
That is right.
You are wrong.
You are great!
You are stupid.
Tell me more.
Go on.
Try again.
Say something.
Say it in {tongue}.
Ask me a question.
Make me laugh.
Tell me a riddle.
Tell me a secret.
Sing!
Let's play a game.
Let's talk about {subject}.
Guess a number.
Pick a number between {small} and {n}.
Count to {n}.
Is {n} a prime number?
Is {n} even or odd?
What is the {small}th prime?
Roll a die.
Flip a coin.
What is the meaning of {word}?
What is the meaning of {subject}?
What is the best {thing}?
What is the best {food} in {city}?
What is the biggest {thing} in {country}?
What is the difference between a {thing} and a {thing}?
What is the difference between {subject} and {subject}?
Compare {country} and {country}.
Who is the best {job} in {country}?
How do I become a {job}?
What does a {job} do?
Who discovered {country}?
Is there life on other planets?
How many planets are there?
How far is the moon?
How hot is the sun?
How deep is the ocean?
How tall is the highest mountain?
What is the speed of light?
What is the largest {animal}?
What is water made of?
What is the boiling point of water?
What causes a {thing}?
What is inside a {thing}?
Can I eat a {thing}?
Where can I buy {food}?
Where do {animal}s live?
Where does {food} come from?
When is {month}?
When should I plant {food}?
Is it going to rain today?
Is it warm outside?
What is the temperature in {city}?
What's the news today?
What is a good name for a {animal}?
Recommend a book about {subject}.
Recommend a movie.
What movie should I watch?
Who sang about {city}?
Who painted the {thing}?
Who wrote the {thing}?
{code}
{code}
{code}
What does {code} do?
Fix this: {code}
Run {code}
Why does {code} fail?
{foreign}
{foreign}
{foreign}!
{foreign}, {name}
{noise}
{noise}
{noise}
{noise} {noise}
{keys}
{keys}
{keys}
{keys} {keys}
{letters}
{letters}
{letters}
{word}
{word}
{word}?
{word}!
{words}
{words}
{words}
{words}?
{words}.
{words} {n}
{n} {words}
{thing}
{thing}?
{animal}
{country}
{city}?
{person}
{name}
{name}?
{subject}
{food}
{spelled}
{spelled}
{n}
{n}?
{n}!
{n}.
{n}=
{n}=?
{long}
{long}
{digits}
{decimal}
{n} {n}
{n} {n} {n}
{n}, {n}, {n}
{n}, {n}, {n}, what comes next?
{quotient}
{quotient}=?
{quotient}=?
{quotient} = ?
What is {quotient}?
Compute {quotient}.
{n} divided by {small}
What is {n} divided by {small}?
Divide {n} by {small}.
Half of {n}
What is half of {n}?
What is the remainder of {n} and {small}?
{n} mod {small}
{power}
{power}=?
{power} = ?
What is {power}?
Compute {power}.
What is {n} squared?
What is {small} to the power of {small}?
What is the square root of {n}?
sqrt({n})
sqrt({n})=?
log({n})
sin({n})=?
{n}! = ?
What is pi?
{decimals}=?
{decimals} = ?
What is {decimals}?
How much is {decimals}?
{n}%
What is {n}% of {n}?
What is {n} percent of {long}?
{fraction}=?
{fraction}
What is {fraction}?
{below}=?
{below}=?
{below}=?
{below} = ?
{below}
What is {below}?
How much is {below}?
Compute {below}.
{belowwords}?
What is {belowwords}?
{above}=?
{above}=?
{above}=?
{above} = ?
{above}
What is {above}?
Compute {above}.
{abovewords}?
What is {abovewords}?
{product}=?
{product}=?
{product}=?
{product} = ?
{product}
What is {product}?
Compute {product}.
{productwords}?
How much is {productwords}?
{operand}=?
{operand}=?
{operand} = ?
{operand}
What is {operand}?
{huge}=?
{huge} = ?
{huge}
What is {huge}?
{negative}=?
{negative} = ?
What is {negative}?
{brackets}=?
{brackets}
{brackets} = ?
What is {brackets}?
{broken}=?
{broken}
{broken}
{numberwords}
{numberwords}?
What is {numberwords}?
How much is {numberwords}?
{equation}
{equation}
{equation}, x?
Solve {equation}.
Solve for x: {equation}
What is x if {equation}?
{n} = {n}
{n} > {n}?
Is {n} bigger than {n}?
Which is larger, {n} or {n}?
{month} {small}
{month} {small}, {year}
{year}
{small}/{small}/{year}
{year}-{small}-{small}
{small}:{n}
{thing} + {thing} = ?
{thing} plus {thing}
{animal} + {animal} = ?
{name} + {name} = ?
{name} plus {name}
{name} times {small}
{colour} + {colour} = ?
What is {colour} plus {colour}?
What is {thing} times {small}?
What is {name} plus {small}?
How much is {food} minus {food}?
{small} {animal}s plus {small} {animal}s
{small} {food} and {small} {food}
If I have {small} {food} and eat {small}, how many are left?
{name} has {small} {food}. How many does {name} have?
What does {name} have?
What does {name} have now?
What does {name} hold?
Who has the {colour} {animal}?
Where is the {colour} {animal}?
What does the {colour} {animal} eat?
Where does the {animal} sleep?
{name} goes to the {place}.
{name} has the {thing}.
{name} and {name} swap.
{name} takes the {colour} {animal} to the {place}.
The {colour} {animal} is in the {place}.
What is in the {place}?
Who is in the {place}?
Where is the {place}?
Where is the {thing}?
Who has the {thing}?
print
def
swap
Backwards?
Again?
Swap {name} and {name}.
What is a swap?
What is a program?
What is a list?
What is a sum?
What is addition?
Count the {animal}s.
Add {animal} and {animal}.
Add a {thing} to the {thing}.
Sort {word}, {word}, {word}.
Is {word} a word?
How many letters are in {word}?
What is the first letter of {word}?
Repeat after me: {words}
Can you repeat that?
Reverse {word}
{name}, {name} and {name}
{name} likes {food}.
{name} is a {job}.
The {job} likes {food}.
The {animal} is {feeling}.
The {thing} is {colour}.
{colour} {thing}
a {colour} {animal}
the {thing} in the {place}
in the {place}
to the {city}
and then?
what else?
no way
of course
good {food}
who knows
where to go
{word} {word} {word} {word} {word} {word} {word}
"""

_CHINESE = """
{country}的首都是哪里？
{country}的首都是什么？
{country}在哪里？
{country}有多少人？
{country}说什么语言？
{country}的总统是谁？
{country}大吗？
{country}冷吗？
{city}在哪个国家？
{city}在哪里？
{city}有多少人？
{city}的天气怎么样？
{city}明天下雨吗？
{city}现在几点？
{city}有什么好玩的？
{city}离{city}多远？
怎么去{city}？
你去过{city}吗？
介绍一下{city}。
介绍一下{country}。
介绍一下{person}。
{person}是谁？
{person}是哪国人？
{person}什么时候出生？
{person}做了什么？
{person}写了什么？
你知道{person}吗？
你认识{name}吗？
我叫{name}。
我是{name}。
你好，{name}！
{name}，你好吗？
{name}在哪里？
{name}是谁？
{name}今天来吗？
{year}年发生了什么？
{year}年谁是总统？
{month}有几天？
今天几号？
今天星期几？
现在几点？
明天天气好吗？
今天会下雨吗？
外面冷吗？
什么是{subject}？
什么是{thing}？
{subject}是什么？
{thing}是什么？
解释一下{subject}。
讲讲{subject}。
{thing}是怎么工作的？
谁发明了{thing}？
{thing}是什么颜色？
{thing}多少钱？
{thing}有什么用？
为什么天是{colour}的？
为什么要学{subject}？
{subject}难吗？
{animal}吃什么？
{animal}会飞吗？
{animal}会游泳吗？
{animal}住在哪里？
{animal}有多大？
{animal}和{animal}哪个大？
你喜欢{food}吗？
你喜欢{subject}吗？
你喜欢{animal}吗？
你喜欢{colour}色吗？
你最喜欢什么？
{food}怎么做？
{food}好吃吗？
哪里有{food}？
我想吃{food}。
我饿了。
怎么{activity}？
你会{activity}吗？
教我{activity}。
我想{activity}。
我不会{activity}。
你会说{tongue}吗？
{word}用{tongue}怎么说？
把{word}翻译成{tongue}。
{word}是什么意思？
{word}怎么写？
用{word}造句。
写一首关于{subject}的诗。
写一首关于{animal}的诗。
写一个关于{name}的故事。
给{name}写一封信。
写一篇关于{city}的文章。
讲一个笑话。
讲个故事。
唱首歌。
画一只{animal}。
画一个{colour}色的{thing}。
我很{feeling}。
我今天{feeling}。
你{feeling}吗？
我{feeling}怎么办？
我有一只{animal}。
我喜欢{food}。
我住在{city}。
我是{job}。
你是{job}吗？
{job}做什么？
怎么当{job}？
你是谁呀？
你叫什么名字？
你叫什么？
你几岁了？
你从哪里来？
你住在哪里？
你会什么？
你能做什么？
你知道什么？
你是人吗？
你是机器人吗？
你在想什么？
你有感情吗？
谁做的你？
你有多少层？
我可以问什么？
帮帮我。
请帮我写作业。
怎么用？
你好吗？
您好！
早上好！
晚上好。
晚安。
再见！
谢谢！
谢谢你，{name}。
不客气。
对不起。
没关系。
生日快乐！
新年快乐！
恭喜！
是的
不是
好的
为什么？
怎么了？
什么？
谁？
哪里？
真的吗？
我不知道。
我不明白。
不对。
你错了。
再来一次。
说点什么。
随便说说。
我们聊聊{subject}吧。
你觉得{subject}怎么样？
你觉得{person}怎么样？
{subject}和{subject}有什么不同？
{food}和{food}哪个好？
推荐一本书。
推荐一部电影。
最大的{animal}是什么？
世界上最高的山是什么？
月亮有多远？
太阳有多热？
光速是多少？
水的沸点是多少？
人为什么要睡觉？
人生的意义是什么？
{noise}
{noise}
{noise}{noise}
{keys}
{foreign}
{code}
{code}
{word}
{word}
{word}？
{words}
{words}
{words}
{words}？
{words}。
{thing}
{thing}？
{animal}
{city}
{country}
{name}
{person}
{subject}
{food}
{n}
{n}？
{long}
{decimal}
{n}和{n}
{quotient}=?
{quotient}等于几？
{n}除以{small}等于几？
{n}除以{small}等于多少？
{n}除以{small}
{n}的一半是多少？
{power}等于几？
{power}=?
{n}的平方是多少？
{n}的平方根是多少？
{small}的{small}次方是多少？
{decimals}等于几？
{decimals}=?
{n}的百分之{small}是多少？
{fraction}等于几？
{below}等于几？
{below}等于多少？
{below}=?
计算{below}。
{belowwords}等于几？
{belowwords}等于多少？
{above}等于几？
{above}等于多少？
计算{above}。
{abovewords}等于几？
{abovewords}等于多少？
{product}等于几？
{product}等于多少？
计算{product}。
{productwords}等于几？
{productwords}等于多少？
{operand}等于几？
{operand}等于多少？
{huge}等于几？
{negative}等于几？
{brackets}等于几？
计算{brackets}。
{broken}等于几？
{numberwords}等于几？
{numberwords}等于多少？
{numberwords}是多少？
解方程{equation}。
{equation}，x是多少？
{n}是质数吗？
{n}大还是{n}大？
数到{n}。
{year}年{month}
{month}{small}日
{n}{unit}等于多少{unit}？
{thing}加{thing}等于几？
{animal}加{animal}等于什么？
{name}加{name}等于几？
{colour}加{colour}等于什么？
{food}减{food}等于几？
{thing}乘{small}等于多少？
{name}有{small}个{food}，吃了{small}个，还有几个？
{name}拿着什么？
{name}拿着什么？
{name}拿什么？
{name}现在拿着什么？
谁有{colour}{animal}？
{colour}{animal}在哪？
{colour}{animal}吃什么？
{name}去{place}。
{name}拿着{thing}。
{name}和{name}交换。
{colour}{animal}在{place}。
谁在{place}？
{place}有什么？
{thing}在哪？
谁拿着{thing}？
倒着？
再说？
交换是什么？
什么是程序？
什么是加法？
{word}有几个字？
重复：{words}
{name}喜欢{food}。
{name}是{job}。
{animal}很{feeling}。
{colour}{thing}
一只{colour}{animal}
然后呢？
还有呢？
当然
没有
"""

TEMPLATES: Mapping[Language, tuple[str, ...]] = {
    "en": tuple(line for line in _ENGLISH.splitlines() if line),
    "zh": tuple(line for line in _CHINESE.splitlines() if line),
}
"""The templates; those of a row of similar questions occur repeatedly."""
